//! The part of a vocabulary that answers are mostly made of.

use crate::{Corpus, Share};

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

    /// The `size` most frequent tokens, ascending; ties go to the lower id, since vocabularies are mostly sorted by frequency.
    pub fn most_frequent(&self, size: usize) -> Vec<u32> {
        let mut tokens: Vec<u32> = (0..self.counts.len() as u32).collect();
        tokens.sort_by_key(|token| std::cmp::Reverse(self.counts[*token as usize]));
        tokens.truncate(size);
        tokens.sort_unstable();
        tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_come_first_and_of_equals_the_lower_id() {
        let frequencies = Frequencies { counts: vec![5, 1, 5, 9, 0] };
        assert_eq!(frequencies.most_frequent(2), [0, 3]);
        assert_eq!(frequencies.most_frequent(4), [0, 1, 2, 3]);
        assert_eq!(frequencies.most_frequent(9).len(), 5);
    }
}
