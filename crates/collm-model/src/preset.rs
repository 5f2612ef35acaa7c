//! Where to split the models this program knows.

use crate::reference::Alias;
use crate::split::SplitOptions;

/// A split that works on a model as it is, before any exit is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Layers `[0, upload_at)` go to the edge.
    pub upload_at: u32,
    /// The edge's own layers after that.
    pub tail: &'static [u32],
    /// Whether the edge may stop before its tail.
    pub exit1: bool,
}

impl Alias {
    /// The split to use where a person chose none.
    pub fn preset(self) -> Preset {
        match self {
            // All but layers 12-15: the guess is the whole model's token 73 % of the time.
            Self::SmolLm2_135m => Preset {
                upload_at: 10,
                tail: &[10, 11, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29],
                exit1: false,
            },
            // By analogy: the first layers after the upload and the last ones, two in the middle skipped.
            Self::Gemma3_270m => Preset { upload_at: 6, tail: &[6, 7, 8, 11, 12, 13, 14, 15, 16, 17], exit1: false },
        }
    }
}

impl Preset {
    /// As options of a split, weights unchanged and without fitted exits.
    pub fn options(self) -> SplitOptions<'static> {
        let Self { upload_at, tail, exit1 } = self;
        SplitOptions { upload_at, tail: tail.to_vec(), exit1, requantize: None, exits: None }
    }
}
