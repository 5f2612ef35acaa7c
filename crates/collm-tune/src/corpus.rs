//! Text that a model wrote, with what it would have said: one file that only grows.
//!
//! A header names the model and the seed. Then records: length, checksum, payload. Whoever was stopped in the middle of a
//! record starts again after the last whole one. Deliberately absent: how the text comes about ([`crate::text`]).

mod record;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use collm_engine::TokenId;
use collm_model::Digest;
use half::f16;

use crate::TuneError;

/// Candidates kept of each position.
pub const CANDIDATES: usize = 32;

/// Name of the file in a work folder.
pub const FILE_NAME: &str = "text.bin";

/// First bytes of the file: name and version.
const MAGIC: &[u8; 8] = b"collmtx1";

/// Magic, digest, seed.
const HEADER_BYTES: usize = MAGIC.len() + 32 + 8;

/// A prompt and the model's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequence {
    /// Names the text among those of its corpus.
    pub job: u64,
    /// Of the prompt's words: what decides to which [`Share`] it belongs.
    pub prompt_hash: u64,
    /// Whether the answer is the model's most likely one, token by token; else it was drawn.
    pub greedy: bool,
    /// The prompt, then the answer, with its end token if it came to an end.
    pub tokens: Vec<TokenId>,
    /// Tokens of the prompt.
    pub answer_start: usize,
    candidate_ids: Vec<u32>,
    candidate_log_probabilities: Vec<f16>,
}

/// What a text is used for, so that nothing is judged by what it was fitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// Fitting: 80 %.
    Train,
    /// Choosing and judging: 10 %.
    HeldBack,
    /// Thresholds and confidences: 10 %.
    Calibration,
}

/// All texts of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Corpus {
    sequences: Vec<Sequence>,
}

impl Sequence {
    /// The answer.
    pub fn answer(&self) -> &[TokenId] {
        &self.tokens[self.answer_start..]
    }

    /// What the model would have said in place of the answer's token `index`: [`CANDIDATES`] ids (fewer if the vocabulary is smaller),
    /// most likely first, with the logarithms of their probabilities.
    ///
    /// # Panics
    /// If the answer has no such token.
    pub fn candidates(&self, index: usize) -> (&[u32], &[f16]) {
        let count = self.candidate_ids.len() / self.answer().len();
        let range = index * count..(index + 1) * count;
        (&self.candidate_ids[range.clone()], &self.candidate_log_probabilities[range])
    }

    /// The model's most likely token in place of the answer's token `index`.
    ///
    /// # Panics
    /// If the answer has no such token.
    pub fn expected(&self, index: usize) -> TokenId {
        TokenId(self.candidates(index).0[0])
    }

    /// What it may be used for.
    pub fn share(&self) -> Share {
        match self.prompt_hash % 10 {
            0..8 => Share::Train,
            8 => Share::HeldBack,
            _ => Share::Calibration,
        }
    }
}

impl Corpus {
    /// Reads what was written into a work folder so far.
    ///
    /// # Errors
    /// [`TuneError::Io`], [`TuneError::Damaged`] or [`TuneError::Foreign`].
    pub fn read(folder: &Path, source: &Digest) -> Result<Self, TuneError> {
        let path = folder.join(FILE_NAME);
        let bytes = fs::read(&path).map_err(|source| TuneError::Io { path: path.clone(), source })?;
        let seed = bytes.get(MAGIC.len() + 32..HEADER_BYTES).unwrap_or_default();
        check_header(&path, &bytes, &header(source, seed))?;
        let (sequences, _) = read_records(&path, &bytes)?;
        Ok(Self { sequences: sequences.into_iter().filter(|sequence| !sequence.tokens.is_empty()).collect() })
    }

    /// All texts, in the order they were finished.
    pub fn sequences(&self) -> impl Iterator<Item = &Sequence> {
        self.sequences.iter()
    }

    /// The texts of one share.
    pub fn share(&self, share: Share) -> impl Iterator<Item = &Sequence> {
        self.sequences.iter().filter(move |sequence| sequence.share() == share)
    }

    /// Those of them that a context of so many positions has room for.
    pub fn fitting(&self, share: Share, context: usize) -> impl Iterator<Item = &Sequence> {
        self.share(share).filter(move |sequence| sequence.tokens.len() <= context)
    }

    /// Tokens of all answers.
    pub fn answer_tokens(&self) -> usize {
        self.sequences.iter().map(|sequence| sequence.answer().len()).sum()
    }
}

/// A file of text that is being written, and what is in it.
#[derive(Debug)]
pub struct CorpusWriter {
    path: PathBuf,
    file: File,
    jobs: BTreeSet<u64>,
    prompts: BTreeSet<u64>,
    answer_tokens: usize,
}

impl CorpusWriter {
    /// Opens the text in `folder` to go on with it, or begins it.
    ///
    /// # Errors
    /// [`TuneError::Foreign`] if it is another model's or another seed's, [`TuneError::Busy`], [`TuneError::Damaged`], [`TuneError::Io`].
    pub fn open(folder: &Path, source: &Digest, seed: u64) -> Result<Self, TuneError> {
        let path = folder.join(FILE_NAME);
        let io = |source| TuneError::Io { path: path.clone(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let mut file = OpenOptions::new().append(true).read(true).create(true).open(&path).map_err(io)?;
        if file.try_lock().is_err() {
            return Err(TuneError::Busy(path));
        }
        let bytes = fs::read(&path).map_err(io)?;
        let header = header(source, &seed.to_le_bytes());
        if bytes.len() < HEADER_BYTES && header.starts_with(&bytes) {
            file.set_len(0).and_then(|()| file.write_all(&header)).map_err(io)?;
            let (jobs, prompts) = Default::default();
            return Ok(Self { path, file, jobs, prompts, answer_tokens: 0 });
        }
        check_header(&path, &bytes, &header)?;
        let (sequences, end) = read_records(&path, &bytes)?;
        file.set_len(end as u64).map_err(io)?;
        let jobs = sequences.iter().map(|sequence| sequence.job).collect();
        let prompts = sequences.iter().map(|sequence| sequence.prompt_hash).collect();
        let answer_tokens = sequences.iter().map(|sequence| sequence.answer().len()).sum();
        Ok(Self { path, file, jobs, prompts, answer_tokens })
    }

    /// Whether a text is there, or was found to be not worth having.
    pub fn has_job(&self, job: u64) -> bool {
        self.jobs.contains(&job)
    }

    /// Whether there is an answer to this prompt.
    pub fn has_prompt(&self, prompt_hash: u64) -> bool {
        self.prompts.contains(&prompt_hash)
    }

    /// Tokens of all answers.
    pub fn answer_tokens(&self) -> usize {
        self.answer_tokens
    }

    /// Adds a text.
    ///
    /// # Errors
    /// [`TuneError::Io`].
    pub(crate) fn append(&mut self, draft: Draft<'_>) -> Result<(), TuneError> {
        self.prompts.insert(draft.prompt_hash);
        self.answer_tokens += draft.tokens.len() - draft.answer_start;
        self.push(draft)
    }

    /// Remembers that a text is not worth having.
    ///
    /// # Errors
    /// [`TuneError::Io`].
    pub(crate) fn skip(&mut self, job: u64, prompt_hash: u64) -> Result<(), TuneError> {
        let nothing = (&[], &[], &[]);
        self.push(Draft {
            job,
            prompt_hash,
            greedy: false,
            tokens: nothing.0,
            answer_start: 0,
            candidate_ids: nothing.1,
            candidate_log_probabilities: nothing.2,
        })
    }

    fn push(&mut self, draft: Draft<'_>) -> Result<(), TuneError> {
        self.jobs.insert(draft.job);
        let io = |source: io::Error| TuneError::Io { path: self.path.clone(), source };
        self.file.write_all(&record::encode(&draft)).map_err(io)
    }
}

/// A text before it is kept; fields as in [`Sequence`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'a> {
    pub(crate) job: u64,
    pub(crate) prompt_hash: u64,
    pub(crate) greedy: bool,
    pub(crate) tokens: &'a [TokenId],
    pub(crate) answer_start: usize,
    pub(crate) candidate_ids: &'a [TokenId],
    pub(crate) candidate_log_probabilities: &'a [f32],
}

/// FNV-1a of 64 bits, mixed once more so that every bit depends on every byte.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, fold);
    let mixed = (folded ^ (folded >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

fn header(source: &Digest, seed: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &source.0, seed].concat()
}

fn check_header(path: &Path, bytes: &[u8], expected: &[u8]) -> Result<(), TuneError> {
    let foreign = |what| Err(TuneError::Foreign { path: path.to_owned(), what });
    match bytes.get(..HEADER_BYTES) {
        Some(header) if header == expected => Ok(()),
        Some(header) if !header.starts_with(MAGIC) => foreign("another program or version"),
        Some(header) if header[..MAGIC.len() + 32] != expected[..MAGIC.len() + 32] => foreign("another model"),
        Some(_) => foreign("the same model with another seed"),
        None => Err(TuneError::Damaged { path: path.to_owned(), at: 0 }),
    }
}

/// The whole records, and where the last one ends. What follows must be short enough to be a record that was cut off.
fn read_records(path: &Path, bytes: &[u8]) -> Result<(Vec<Sequence>, usize), TuneError> {
    let (mut sequences, mut at) = (Vec::new(), HEADER_BYTES);
    while let Some((payload, end)) = record::next(bytes, at) {
        let damaged = || TuneError::Damaged { path: path.to_owned(), at: at as u64 };
        sequences.push(payload.and_then(record::decode).ok_or_else(damaged)?);
        at = end;
    }
    if bytes.len() - at > record::BYTES_MAX {
        return Err(TuneError::Damaged { path: path.to_owned(), at: at as u64 });
    }
    Ok((sequences, at))
}

#[cfg(test)]
pub(crate) mod made_up;
#[cfg(test)]
mod tests;
