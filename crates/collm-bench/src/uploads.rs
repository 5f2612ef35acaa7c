//! What the encodings of an upload cost in tokens: at how many positions a model that is split after `e1` says another token than
//! the whole model, because the states went up in an encoding that is not exact.
//!
//! Teacher-forced: every encoding reads the whole model's own greedy answer, so all are asked about the same positions and an error
//! does not breed others. Rows are computed as nodes compute them: a prompt in whole blocks, an answer never.

use anyhow::Context as _;
use collm_core::states::Encoding;
use collm_engine::{BLOCK_ROWS, Engine, Head, Input, Position, Row, Scope, Scores, SlotId, Stack, TokenId};
use collm_exec::{Codec, ExecError};

/// Positions of a prompt computed at once, whole blocks.
const PROMPT_ROWS: usize = 8 * BLOCK_ROWS;

/// Positions of an answer computed at once: never a whole block.
const ANSWER_ROWS: usize = BLOCK_ROWS - 1;

/// States scored at once: the logits of a large vocabulary take a megabyte a row.
const SCORED_ROWS: usize = 16;

/// Rows that the engine's calls must have room for.
pub const BATCH_ROWS: usize = PROMPT_ROWS;

/// For each position of an answer, whether another token than the whole model's was most likely; or why states of the text cannot be
/// written in the encoding.
pub type Flips = Result<Vec<bool>, ExecError>;

/// Reads texts once in each encoding.
#[derive(Debug)]
pub struct UploadReader<E> {
    engine: E,
    codec: Codec,
    encodings: Vec<Encoding>,
    lower: Vec<f32>,
    decoded: Vec<f32>,
    upper: Vec<f32>,
    scores: Scores,
}

impl<E: Engine> UploadReader<E> {
    /// Around a whole model with a slot for each encoding, divided where states go up, whose calls may carry [`BATCH_ROWS`] rows.
    pub fn new(engine: E, encodings: &[Encoding]) -> Self {
        let (lower, decoded, upper, scores) = Default::default();
        Self { engine, codec: Codec::default(), encodings: encodings.to_vec(), lower, decoded, upper, scores }
    }

    /// Reads a prompt and the whole model's answer to it, and says for each encoding where it would have said something else.
    ///
    /// # Errors
    /// When the engine fails, as for a text that is longer than its context.
    pub fn read(&mut self, prompt: &[TokenId], answer: &[TokenId]) -> anyhow::Result<Vec<Flips>> {
        let mut flips: Vec<Flips> = vec![Ok(Vec::new()); self.encodings.len()];
        for slot in 0..flips.len() {
            self.engine.truncate(slot_id(slot), 0);
        }
        let given = &answer[..answer.len().saturating_sub(1)];
        let mut first = 0;
        for piece in prompt.chunks(PROMPT_ROWS).chain(given.chunks(ANSWER_ROWS)) {
            let input = Input::Tokens(piece);
            self.engine.run(Stack::Lower, &rows(0, first, piece.len()), input, &mut self.lower)?;
            // What the last position of the prompt says is the answer's first token.
            let silent = (prompt.len() - 1).saturating_sub(first).min(piece.len());
            let from = (first + silent + 1).checked_sub(prompt.len());
            let expected = from.and_then(|from| answer.get(from..)).unwrap_or_default();
            for (slot, flips) in flips.iter_mut().enumerate() {
                self.run_upper(slot, first, piece.len(), flips)?;
                self.compare(silent, expected, flips)?;
            }
            first += piece.len();
        }
        Ok(flips)
    }

    /// The cloud's layers over the rows that the lower ones have just computed, as an upload brings them.
    fn run_upper(&mut self, slot: usize, first: usize, count: usize, flips: &mut Flips) -> anyhow::Result<()> {
        let Ok(_) = flips else { return Ok(()) };
        let (width, position) = (self.engine.shape().width, Position(u32::try_from(first)?));
        let block = match self.codec.encode(self.encodings[slot], width, position, &self.lower) {
            Ok(block) => block,
            Err(error) => {
                *flips = Err(error);
                return Ok(());
            }
        };
        self.decoded.clear();
        self.codec.decode(&block, 0, block.rows(), &mut self.decoded);
        let input = Input::Hidden(&self.decoded);
        let run = self.engine.run(Stack::Upper, &rows(slot, first, count), input, &mut self.upper);
        run.context("the layers after the upload failed")
    }

    /// Adds where the rows from `silent` on say something else than expected.
    fn compare(&mut self, silent: usize, expected: &[TokenId], flips: &mut Flips) -> anyhow::Result<()> {
        let Ok(flips) = flips else { return Ok(()) };
        let (width, vocabulary) = (self.engine.shape().width, self.engine.shape().vocabulary);
        let mut expected = expected.iter();
        for states in self.upper[silent * width..].chunks(SCORED_ROWS * width) {
            self.engine.score(Head::Final, Scope::Full, states, &mut self.scores)?;
            let says = self.scores.logits.chunks_exact(vocabulary).map(most_likely);
            flips.extend(says.zip(expected.by_ref()).map(|(says, expected)| says != *expected));
        }
        Ok(())
    }
}

fn rows(slot: usize, first: usize, count: usize) -> Vec<Row> {
    let position = |index| Position(u32::try_from(index).expect("positions are bounded by the context"));
    (first..first + count).map(|index| Row { slot: slot_id(slot), position: position(index) }).collect()
}

fn slot_id(slot: usize) -> SlotId {
    SlotId(u32::try_from(slot).expect("there are few encodings"))
}

/// The first of the highest.
fn most_likely(logits: &[f32]) -> TokenId {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let index = logits.iter().position(|logit| *logit == highest).unwrap_or_default();
    TokenId(u32::try_from(index).expect("vocabularies are numbered in 32 bits"))
}

#[cfg(test)]
mod tests {
    use collm_engine::scripted::{Script, ScriptedEngine, Sizes};

    use super::*;

    #[test]
    fn a_model_whose_states_arrive_says_what_it_said() {
        let script = Script { turn_ends: 0.0, ..Script::default() };
        let sizes = Sizes { slots: Encoding::ALL.len(), context: 1024, batch_rows_max: BATCH_ROWS };
        let mut reader = UploadReader::new(ScriptedEngine::whole(script.clone(), sizes), &Encoding::ALL);
        for prompt_tokens in [1, 63, PROMPT_ROWS, PROMPT_ROWS + 1] {
            let mut text: Vec<TokenId> = (0..prompt_tokens as u32).map(|index| TokenId(1 + index % 50)).collect();
            for _ in 0..130 {
                text.push(script.truth(&text));
            }
            let (prompt, answer) = text.split_at(prompt_tokens);
            let flips = reader.read(prompt, answer).expect("the text fits");
            assert_eq!(flips, vec![Ok(vec![false; 130]); Encoding::ALL.len()], "after {prompt_tokens} tokens");
            let mut wrong = answer.to_vec();
            wrong[129] = TokenId(wrong[129].0 % 50 + 1);
            let flips = reader.read(prompt, &wrong).expect("the text fits");
            let flips_once = |flips: &Flips| {
                let count = flips.as_ref().map(|flips| flips.iter().filter(|flip| **flip).count());
                count == Ok(1)
            };
            assert!(flips.iter().all(flips_once), "{flips:?}");
        }
    }
}
