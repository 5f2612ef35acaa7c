//! What healing learns from: a text as the states that enter the tail, with what the whole model says along its answer.

use collm_engine::SlotId;
use collm_train::{Candidates, Piece};

use crate::states::read;
use crate::teacher::PROMPT_ROWS_MAX;
use crate::{Sequence, Teacher, TuneError};

/// Candidates that are learnt from: what lies beyond has next to no probability.
const LEARNT: usize = 24;

const SLOT: SlotId = SlotId(0);

/// A text as a piece; only positions where the answer is being written count. Leaves slot 0 of the teacher with that text.
///
/// # Errors
/// [`TuneError::Engine`], or [`TuneError::TooLittleText`] for a text without a prompt or an answer.
pub fn piece(teacher: &mut Teacher, sequence: &Sequence) -> Result<Piece, TuneError> {
    let answered = sequence.answer().len();
    if answered == 0 || sequence.answer_start == 0 {
        return Err(TuneError::TooLittleText("healing: a text has no prompt or no answer"));
    }
    let before = sequence.answer_start - 1;
    let (mut ids, mut log_probabilities) = (Vec::new(), Vec::new());
    let mut say = |index: usize| {
        let (tokens, likely) = sequence.candidates(index);
        ids.extend(tokens.iter().take(LEARNT));
        log_probabilities.extend(likely.iter().take(LEARNT).map(|value| value.to_f32()));
    };
    // Positions of the prompt say anything: nobody listens.
    (0..before).for_each(|_| say(0));
    (0..answered).for_each(&mut say);
    let per_position = ids.len() / (before + answered);
    let weights = (0..before + answered).map(|position| if position < before { 0.0 } else { 1.0 }).collect();
    let states = states(teacher, sequence)?;
    Ok(Piece::new(teacher.width(), states, Candidates { per_position, ids, log_probabilities }, weights)?)
}

/// The states of all tokens but the last.
fn states(teacher: &mut Teacher, sequence: &Sequence) -> Result<Vec<f32>, TuneError> {
    let mut states = Vec::new();
    teacher.truncate(SLOT, 0);
    for piece in read(sequence).chunks(PROMPT_ROWS_MAX) {
        states.extend_from_slice(teacher.upload(&[(SLOT, piece)])?);
    }
    Ok(states)
}
