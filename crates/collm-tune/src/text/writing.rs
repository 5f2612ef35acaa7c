//! One text under way, and how its tokens are drawn.

use collm_engine::TokenId;

use crate::candidates::Candidates;
use crate::corpus::{CANDIDATES, Draft, hash};

/// Temperatures of the words of users: ordinary, and less so.
const WORDS_TEMPERATURES: [f32; 3] = [0.7, 0.9, 1.1];

/// Words of users are drawn from the tokens that together are this likely.
const WORDS_TOP_P: f32 = 0.98;

/// Candidates that words of users are drawn from.
const WORDS_CANDIDATES: usize = 256;

/// Answers that are not greedy are drawn at a temperature between these.
const ANSWER_TEMPERATURES: (f32, f32) = (0.5, 0.8);

/// What is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Words,
    Answer,
}

/// A text.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) job: u64,
    pub(super) stage: Stage,
    /// Of the user's words, once they are complete.
    pub(super) prompt_hash: Option<u64>,
    pub(super) tokens: Vec<TokenId>,
    /// Tokens that the model has read.
    pub(super) fed: usize,
    /// Where what is being written begins.
    start: usize,
    words_temperature: f32,
    /// `None` for a greedy answer.
    answer_temperature: Option<f32>,
    random: fastrand::Rng,
    candidate_ids: Vec<TokenId>,
    candidate_log_probabilities: Vec<f32>,
}

impl Writing {
    /// A text that begins with `opening`.
    pub(super) fn new(job: u64, seed: u64, opening: Vec<TokenId>) -> Self {
        let mut random = fastrand::Rng::with_seed(hash(&[seed.to_le_bytes(), job.to_le_bytes()].concat()));
        let words_temperature = WORDS_TEMPERATURES[random.usize(..WORDS_TEMPERATURES.len())];
        let (coolest, warmest) = ANSWER_TEMPERATURES;
        let answer_temperature = random.bool().then(|| coolest + random.f32() * (warmest - coolest));
        Self {
            job,
            stage: Stage::Words,
            prompt_hash: None,
            start: opening.len(),
            tokens: opening,
            fed: 0,
            words_temperature,
            answer_temperature,
            random,
            candidate_ids: Vec::new(),
            candidate_log_probabilities: Vec::new(),
        }
    }

    /// From the user's words to the answer, after `prompt`.
    pub(super) fn begin_answer(&mut self, prompt: Vec<TokenId>, prompt_hash: u64) {
        self.stage = Stage::Answer;
        self.prompt_hash = Some(prompt_hash);
        self.start = prompt.len();
        self.tokens = prompt;
        self.fed = 0;
    }

    /// Candidates that the next token is drawn from.
    pub(super) fn candidates_needed(&self) -> usize {
        match self.stage {
            Stage::Words => WORDS_CANDIDATES,
            Stage::Answer => CANDIDATES,
        }
    }

    pub(super) fn draw_word(&mut self, candidates: &Candidates) -> TokenId {
        candidates.draw(self.words_temperature, WORDS_TOP_P, self.random.f32())
    }

    /// The answer's next token; the candidates are kept with the text.
    pub(super) fn draw_answer(&mut self, candidates: Candidates) -> TokenId {
        let token = match self.answer_temperature {
            Some(temperature) => candidates.draw(temperature, 1.0, self.random.f32()),
            None => candidates.best(),
        };
        self.candidate_ids.extend(candidates.ids);
        self.candidate_log_probabilities.extend(candidates.log_probabilities);
        token
    }

    /// Everything so far has been read; `token` comes next.
    pub(super) fn push(&mut self, token: TokenId) {
        self.fed = self.tokens.len();
        self.tokens.push(token);
    }

    /// The words so far, or the answer so far.
    pub(super) fn written(&self) -> &[TokenId] {
        &self.tokens[self.start..]
    }

    /// The finished text.
    pub(super) fn draft(&self) -> Draft<'_> {
        Draft {
            job: self.job,
            prompt_hash: self.prompt_hash.expect("an answer has a prompt"),
            greedy: self.answer_temperature.is_none(),
            tokens: &self.tokens,
            answer_start: self.start,
            candidate_ids: &self.candidate_ids,
            candidate_log_probabilities: &self.candidate_log_probabilities,
        }
    }
}
