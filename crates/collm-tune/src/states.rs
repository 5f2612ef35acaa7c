//! Hidden states of texts, computed when they are needed: they take more room than the weights they come from.
//!
//! Whole texts are computed in whole blocks, answers too, which is the fastest way. In the last bits the states differ from those of
//! nodes, which decode answers token by token ([`crate::reader`] reads as they do); what is fitted must bear that anyway.

use collm_engine::{SlotId, TokenId};

use crate::teacher::PROMPT_ROWS_MAX;
use crate::{Sequence, Teacher, TuneError};

const SLOT: SlotId = SlotId(0);

/// The states of a text's tokens but the last, after which nothing is said; `width` floats a token.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct States {
    /// After the layers before the upload.
    pub uploaded: Vec<f32>,
    /// After the last layer.
    pub last: Vec<f32>,
}

impl States {
    /// Of one text. Leaves slot 0 of the teacher with that text.
    ///
    /// # Errors
    /// [`TuneError::Engine`].
    pub fn of(teacher: &mut Teacher, sequence: &Sequence) -> Result<Self, TuneError> {
        let mut states = Self::default();
        teacher.truncate(SLOT, 0);
        for piece in read(sequence).chunks(PROMPT_ROWS_MAX) {
            let passed = teacher.advance(&[(SLOT, piece)])?;
            states.uploaded.extend_from_slice(passed.uploaded);
            states.last.extend_from_slice(passed.last);
        }
        Ok(states)
    }

    /// The teacher's logits for each token of the answer, `vocabulary` a token.
    ///
    /// # Errors
    /// [`TuneError::Engine`].
    pub fn answer_logits<'a>(&self, teacher: &'a mut Teacher, sequence: &Sequence) -> Result<&'a [f32], TuneError> {
        let first = (sequence.answer_start - 1) * teacher.width();
        teacher.score(&self.last[first..])
    }
}

/// The tokens of a text after which another one comes.
pub(crate) fn read(sequence: &Sequence) -> &[TokenId] {
    &sequence.tokens[..sequence.tokens.len() - 1]
}
