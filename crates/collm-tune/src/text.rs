//! Text by the model itself. It writes what a user could ask, by continuing an opened turn of the user's, and then the answer.
//!
//! Many texts are written at once, each in a slot; a slot that is done takes the next. Text `n` depends on the seed, on `n` and
//! on the prompts given, not on its neighbours, so that a run that was stopped goes on as if it had not been.
//!
//! Prompts are computed in whole blocks and answers token by token, as nodes compute them: what the model says here is what it
//! says there, to the last bit.

mod writing;

use std::time::{Duration, Instant};

use collm_engine::{SlotId, TokenId};

use crate::candidates::Candidates;
use crate::corpus::{CorpusWriter, hash};
use crate::dialogue::Dialogue;
use crate::teacher::PROMPT_ROWS_MAX;
use crate::{Teacher, TuneError};
use writing::{Stage, Writing};

/// Tokens of a prompt as the model reads it, at most: longer ones of users are left out.
pub const PROMPT_TOKENS_MAX: usize = 384;

/// Tokens of the words that the model puts into a user's mouth, at most.
const WORDS_TOKENS_MAX: usize = 120;

/// Tokens of an answer, at most.
const ANSWER_TOKENS_MAX: usize = 192;

/// Tokens of a text, at most: what a teacher's slots must hold.
pub const CONTEXT: usize = PROMPT_TOKENS_MAX + ANSWER_TOKENS_MAX;

/// A model that makes so many useless texts in a row will not make another one.
const USELESS_MAX: usize = 200;

/// What is to be written.
#[derive(Debug, Clone)]
pub struct TextOptions {
    /// Tokens of all answers, with those that are there already.
    pub tokens: usize,
    /// Names the text.
    pub seed: u64,
    /// What users asked; answered before anything else.
    pub prompts: Vec<String>,
}

/// How far the writing is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextProgress {
    /// Tokens of all answers, with those of earlier runs.
    pub tokens: usize,
    /// Tokens wanted.
    pub tokens_wanted: usize,
    /// Tokens of answers finished in this run.
    pub tokens_now: usize,
    /// Positions computed in this run: of prompts, of the words of users, of answers.
    pub rows_now: usize,
    /// Texts finished in this run.
    pub texts_now: usize,
    /// Time of this run.
    pub elapsed: Duration,
}

/// Writes until there are as many tokens as wanted, and tells `progress` after every step.
///
/// # Errors
/// When the model cannot compute, the file cannot be written, or the model has nothing new to say.
pub fn write(
    teacher: &mut Teacher,
    dialogue: &Dialogue,
    corpus: &mut CorpusWriter,
    options: &TextOptions,
    progress: &mut dyn FnMut(&TextProgress),
) -> Result<TextProgress, TuneError> {
    if teacher.context() < CONTEXT {
        return Err(TuneError::Options(format!("a text takes {CONTEXT} positions, a slot has {}", teacher.context())));
    }
    let slots = (0..teacher.slots()).map(|_| None).collect();
    let mut room = Room { dialogue, corpus, options, slots, next_own: 0, next_given: 0, useless: 0 };
    let began = Instant::now();
    let mut report = TextProgress {
        tokens: room.corpus.answer_tokens(),
        tokens_wanted: options.tokens,
        tokens_now: 0,
        rows_now: 0,
        texts_now: 0,
        elapsed: Duration::ZERO,
    };
    let start = report.tokens;
    progress(&report);
    while report.tokens < options.tokens {
        room.fill(teacher)?;
        let round = room.round(teacher)?;
        report.rows_now += round.rows;
        report.texts_now += round.texts;
        report.tokens = room.corpus.answer_tokens();
        report.tokens_now = report.tokens - start;
        report.elapsed = began.elapsed();
        progress(&report);
    }
    Ok(report)
}

/// The texts under way.
struct Room<'a> {
    dialogue: &'a Dialogue,
    corpus: &'a mut CorpusWriter,
    options: &'a TextOptions,
    slots: Vec<Option<Writing>>,
    next_own: u64,
    next_given: usize,
    /// Texts thrown away since the last good one.
    useless: usize,
}

/// What a round brought.
struct Round {
    rows: usize,
    texts: usize,
}

impl Room<'_> {
    /// Gives every free slot a text.
    fn fill(&mut self, teacher: &mut Teacher) -> Result<(), TuneError> {
        for index in 0..self.slots.len() {
            if self.slots[index].is_none() {
                self.slots[index] = self.next_text()?;
                teacher.truncate(slot(index), 0);
            }
        }
        if self.slots.iter().all(Option::is_none) {
            return Err(TuneError::NoBeginning);
        }
        if self.useless > USELESS_MAX { Err(TuneError::NothingNew(self.useless)) } else { Ok(()) }
    }

    /// The next text that nobody has begun: of a given prompt, or of the model's own.
    fn next_text(&mut self) -> Result<Option<Writing>, TuneError> {
        while let Some(words) = self.options.prompts.get(self.next_given) {
            self.next_given += 1;
            let prompt_hash = hash(words.as_bytes());
            let job = prompt_hash | GIVEN;
            if self.is_new(job, prompt_hash) {
                let mut writing = Writing::new(job, self.options.seed, Vec::new());
                if self.begin_answer(&mut writing, words)? {
                    return Ok(Some(writing));
                }
            }
        }
        if self.dialogue.opening().is_empty() {
            return Ok(None);
        }
        while self.corpus.has_job(self.next_own) {
            self.next_own += 1;
        }
        let writing = Writing::new(self.next_own, self.options.seed, self.dialogue.opening().to_vec());
        self.next_own += 1;
        Ok(Some(writing))
    }

    /// Whether neither the file nor a slot has it.
    fn is_new(&self, job: u64, prompt_hash: u64) -> bool {
        let under_way = || self.slots.iter().flatten().any(|writing| writing.prompt_hash == Some(prompt_hash));
        !self.corpus.has_job(job) && !self.corpus.has_prompt(prompt_hash) && !under_way()
    }

    /// One token more in every slot whose prompt has been read.
    fn round(&mut self, teacher: &mut Teacher) -> Result<Round, TuneError> {
        let chosen = self.chosen();
        let pieces: Vec<(SlotId, &[TokenId])> =
            chosen.iter().map(|&index| (slot(index), self.pending(index))).collect();
        let rows = pieces.iter().map(|(_, tokens)| tokens.len()).sum();
        let lengths: Vec<usize> = pieces.iter().map(|(_, tokens)| tokens.len()).collect();
        let width = teacher.width();
        let last = teacher.advance(&pieces)?.last;
        let mut end = 0;
        let mut states = Vec::with_capacity(chosen.len() * width);
        for length in lengths {
            end += length;
            states.extend_from_slice(&last[(end - 1) * width..end * width]);
        }
        let vocabulary = teacher.vocabulary();
        let mut texts = 0;
        for (&index, logits) in chosen.iter().zip(teacher.score(&states)?.chunks_exact(vocabulary)) {
            let mut writing = self.slots[index].take().expect("chosen slots have a text");
            let stage = writing.stage;
            let candidates = Candidates::of(logits, writing.candidates_needed())?;
            let goes_on = match stage {
                Stage::Words => self.say(&mut writing, &candidates)?,
                Stage::Answer => self.answer(&mut writing, candidates)?,
            };
            texts += usize::from(stage == Stage::Answer && !goes_on);
            self.slots[index] = goes_on.then_some(writing);
        }
        for &index in &chosen {
            if self.slots[index].as_ref().is_some_and(|writing| writing.fed == 0) {
                teacher.truncate(slot(index), 0);
            }
        }
        Ok(Round { rows, texts })
    }

    /// Slots whose tokens go into this round: all that need one row, and as many prompts as fit whole.
    fn chosen(&self) -> Vec<usize> {
        let mut room = PROMPT_ROWS_MAX;
        let fits = |&index: &usize| {
            if self.slots[index].is_none() {
                return false;
            }
            let rows = self.pending(index).len();
            let fits = rows == 1 || rows <= room;
            room -= if fits && rows > 1 { rows } else { 0 };
            fits
        };
        (0..self.slots.len()).filter(fits).collect()
    }

    fn pending(&self, index: usize) -> &[TokenId] {
        self.slots[index].as_ref().map_or(&[], |writing| &writing.tokens[writing.fed..])
    }

    /// The user's next token. Whether the text goes on.
    fn say(&mut self, writing: &mut Writing, candidates: &Candidates) -> Result<bool, TuneError> {
        let token = writing.draw_word(candidates);
        if !self.dialogue.ends_turn(token) {
            writing.push(token);
            if writing.written().len() < WORDS_TOKENS_MAX {
                return Ok(true);
            }
        }
        let words = self.dialogue.words(writing.written());
        let prompt_hash = hash(words.as_bytes());
        let new = words.chars().any(char::is_alphanumeric) && self.is_new(writing.job, prompt_hash);
        if new && self.begin_answer(writing, &words)? {
            return Ok(true);
        }
        self.useless += 1;
        self.corpus.skip(writing.job, prompt_hash)?;
        Ok(false)
    }

    /// Turns to the answer, if the prompt is not too long.
    fn begin_answer(&self, writing: &mut Writing, words: &str) -> Result<bool, TuneError> {
        let prompt = self.dialogue.prompt(words)?;
        let fits = !prompt.is_empty() && prompt.len() <= PROMPT_TOKENS_MAX;
        if fits {
            writing.begin_answer(prompt, hash(words.as_bytes()));
        }
        Ok(fits)
    }

    /// The answer's next token. Whether the text goes on.
    fn answer(&mut self, writing: &mut Writing, candidates: Candidates) -> Result<bool, TuneError> {
        let token = writing.draw_answer(candidates);
        writing.push(token);
        if !self.dialogue.ends_answer(token) && writing.written().len() < ANSWER_TOKENS_MAX {
            return Ok(true);
        }
        self.useless = 0;
        self.corpus.append(writing.draft())?;
        Ok(false)
    }
}

/// Bit of jobs whose prompt was given, so that they are named by it and not by their place in a file.
const GIVEN: u64 = 1 << 63;

fn slot(index: usize) -> SlotId {
    SlotId(index as u32)
}

#[cfg(test)]
mod tests;
