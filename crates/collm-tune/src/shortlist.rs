//! The part of a vocabulary that answers are mostly made of.

use std::collections::BTreeSet;

use collm_engine::TokenId;
use collm_ggml::Vocabulary;

use crate::{Corpus, Share, TuneError};

/// How often each token comes in the answers that may be fitted to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frequencies {
    /// By token id.
    counts: Vec<u64>,
}

impl Frequencies {
    /// Of the answers in [`Share::Train`]: what the model most likely says at each of their positions, and what was said.
    pub fn of(corpus: &Corpus, vocabulary: usize) -> Self {
        let mut counts = vec![0; vocabulary];
        for sequence in corpus.share(Share::Train) {
            let expected = (0..sequence.answer().len()).map(|index| sequence.expected(index));
            for token in expected.chain(sequence.answer().iter().copied()) {
                if let Some(count) = counts.get_mut(token.0 as usize) {
                    *count += 1;
                }
            }
        }
        Self { counts }
    }

    /// The `size` tokens to score: those that end an answer, those of one byte, so that every text can be written, then the most
    /// frequent ones; ties go to the lower id, since vocabularies are mostly sorted by frequency. Ascending.
    ///
    /// # Errors
    /// [`TuneError::Options`] if there is no room for the tokens that must be there.
    pub fn shortlist(&self, size: usize, vocabulary: &Vocabulary) -> Result<Vec<TokenId>, TuneError> {
        let all = || (0..self.counts.len() as u32).map(TokenId);
        let needed = |token: &TokenId| vocabulary.token_bytes(*token).len() == 1;
        let mut kept: BTreeSet<TokenId> = all().filter(needed).chain(vocabulary.end_tokens().iter().copied()).collect();
        if kept.len() > size {
            let needed = kept.len();
            return Err(TuneError::Options(format!(
                "a shortlist of {size} tokens has no room for {needed} of one byte"
            )));
        }
        let mut frequent: Vec<TokenId> = all().filter(|token| !kept.contains(token)).collect();
        frequent.sort_by_key(|token| std::cmp::Reverse(self.counts[token.0 as usize]));
        let room = size - kept.len();
        kept.extend(frequent.into_iter().take(room));
        Ok(kept.into_iter().collect())
    }
}

/// The share of held-back positions whose most likely token is in `shortlist`, which is ascending.
///
/// # Errors
/// [`TuneError::TooLittleText`] if nothing is held back.
pub fn coverage(corpus: &Corpus, shortlist: &[TokenId]) -> Result<f64, TuneError> {
    let (mut covered, mut positions) = (0_usize, 0_usize);
    for sequence in corpus.share(Share::HeldBack) {
        positions += sequence.answer().len();
        let expected = (0..sequence.answer().len()).map(|index| sequence.expected(index));
        covered += expected.filter(|token| shortlist.binary_search(token).is_ok()).count();
    }
    if positions == 0 {
        return Err(TuneError::TooLittleText("the shortlist's coverage"));
    }
    Ok(covered as f64 / positions as f64)
}
