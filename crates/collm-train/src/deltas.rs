//! What was learnt, ready to be written into a file of exits.

use crate::ExitMap;
use crate::layer::{GAINS, MATRICES};
use crate::parameters::{Parameter, find, tail_name};
use crate::tail::{EXIT_MAP, EXIT_MAP_BIAS, EXIT_MLP_DOWN, EXIT_MLP_UP, EXIT_NORM};

/// A low-rank delta: row `o` of the merged matrix is `W[o] + sum over r of b[o][r] * a[r]`.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// Which matrix: `attn_q.weight` for example.
    pub suffix: String,
    /// Rows of `a`.
    pub rank: usize,
    /// Values in a row of the matrix.
    pub input: usize,
    /// Rows of the matrix.
    pub output: usize,
    /// `rank` rows of `input` values.
    pub a: Vec<f32>,
    /// `output` rows of `rank` values.
    pub b: Vec<f32>,
}

/// What changes in a layer of the tail.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerDelta {
    /// Deltas of its matrices.
    pub low_rank: Vec<LowRank>,
    /// Gains that replace the layer's own, by suffix: `attn_norm.weight` for example.
    pub vectors: Vec<(String, Vec<f32>)>,
}

/// What changes in the exit.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitDelta {
    /// Gain of its norm, one value for each of a state.
    pub norm: Vec<f32>,
    /// Affine map behind the norm.
    pub map: Option<ExitMap>,
    /// What is added to the map's result, or to the norm's.
    pub mlp: Option<ExitMlp>,
}

/// An MLP behind an exit's norm: `down * silu(up * x)`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExitMlp {
    /// Inner width.
    pub hidden: usize,
    /// `hidden` rows, as long as a state.
    pub up: Vec<f32>,
    /// A row of `hidden` values for each value of a state.
    pub down: Vec<f32>,
}

/// Everything that was learnt.
#[derive(Debug, Clone, PartialEq)]
pub struct Deltas {
    /// Layer after layer of the tail.
    pub layers: Vec<LayerDelta>,
    /// The exit after the tail.
    pub exit: ExitDelta,
}

impl Deltas {
    pub(crate) fn new(parameters: &[Parameter], layers: usize) -> Self {
        let values = |name: &str| find(parameters, name).map(|parameter| parameter.values.clone());
        let layer = |index: usize| LayerDelta {
            low_rank: MATRICES
                .iter()
                .filter_map(|stem| low_rank(parameters, index, &format!("{stem}.weight")))
                .collect(),
            vectors: GAINS
                .iter()
                .filter_map(|gain| Some(((*gain).to_owned(), values(&tail_name(index, gain))?)))
                .collect(),
        };
        Self {
            layers: (0..layers).map(layer).collect(),
            exit: ExitDelta {
                norm: values(EXIT_NORM).expect("made for every tail"),
                map: values(EXIT_MAP).zip(values(EXIT_MAP_BIAS)).map(|(weight, bias)| ExitMap { weight, bias }),
                mlp: find(parameters, EXIT_MLP_UP).zip(values(EXIT_MLP_DOWN)).map(|(up, down)| ExitMlp {
                    hidden: up.dims[0],
                    up: up.values.clone(),
                    down,
                }),
            },
        }
    }
}

fn low_rank(parameters: &[Parameter], index: usize, suffix: &str) -> Option<LowRank> {
    let part = |part: &str| find(parameters, &format!("{}.{part}", tail_name(index, suffix)));
    let (a, b) = part("a").zip(part("b"))?;
    Some(LowRank {
        suffix: suffix.to_owned(),
        rank: a.dims[0],
        input: a.dims[1],
        output: b.dims[0],
        a: a.values.clone(),
        b: b.values.clone(),
    })
}
