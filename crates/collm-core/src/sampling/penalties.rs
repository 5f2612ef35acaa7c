//! What is done to logits before anything is drawn: bias, then penalties on tokens that were there before.

use std::collections::BTreeMap;

use super::{Sampling, Scoring};
use crate::ids::TokenId;

/// Applies everything that `scoring` says about single tokens. Tokens outside the vocabulary are ignored.
pub(super) fn apply(logits: &mut [f32], scoring: &Scoring) {
    let Scoring { sampling, recent, answer, .. } = scoring;
    repeat(logits, sampling.repeat_penalty, recent);
    presence_and_frequency(logits, sampling, answer);
    for &(token, bias) in &sampling.bias {
        if let Some(logit) = logits.get_mut(token.0 as usize) {
            *logit += bias;
        }
    }
}

/// Each recent token once, as llama.cpp's repetition penalty does.
fn repeat(logits: &mut [f32], penalty: f32, recent: &[TokenId]) {
    if penalty == 1.0 {
        return;
    }
    for token in counts(recent).into_keys() {
        if let Some(logit) = logits.get_mut(token.0 as usize) {
            *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// As OpenAI documents both: `logit - count * frequency - (count > 0) * presence`, counted over the answer.
fn presence_and_frequency(logits: &mut [f32], sampling: &Sampling, answer: &[TokenId]) {
    if !sampling.counts_matter() {
        return;
    }
    for (token, count) in counts(answer) {
        if let Some(logit) = logits.get_mut(token.0 as usize) {
            *logit -= count as f32 * sampling.frequency_penalty + sampling.presence_penalty;
        }
    }
}

fn counts(tokens: &[TokenId]) -> BTreeMap<TokenId, u32> {
    let mut counts = BTreeMap::new();
    for &token in tokens {
        *counts.entry(token).or_insert(0) += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Position;

    const TOKENS: [TokenId; 4] = [TokenId(1), TokenId(1), TokenId(3), TokenId(900)];

    fn check(sampling: Sampling, recent: &[TokenId], answer: &[TokenId], expected: [f32; 4]) {
        let mut logits = [1.0, 3.0, 2.0, -1.0];
        let (recent, answer) = (recent.to_vec(), answer.to_vec());
        let scoring = Scoring { recent, answer, ..Scoring::alone(Position(0), sampling) };
        apply(&mut logits, &scoring);
        assert_eq!(logits, expected, "{scoring:?}");
    }

    #[test]
    fn repetition_counts_a_token_once_and_ignores_strangers() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Sampling::GREEDY };
        check(sampling, &TOKENS, &[], [1.0, 1.5, 2.0, -2.0]);
    }

    #[test]
    fn presence_counts_once_and_frequency_each_time() {
        let presence = Sampling { presence_penalty: 0.5, ..Sampling::GREEDY };
        check(presence, &[], &TOKENS, [1.0, 2.5, 2.0, -1.5]);
        let frequency = Sampling { frequency_penalty: -0.5, ..Sampling::GREEDY };
        check(frequency, &[], &TOKENS, [1.0, 4.0, 2.0, -0.5]);
    }

    #[test]
    fn bias_is_added() {
        let bias = vec![(TokenId(0), 100.0), (TokenId(3), -2.0), (TokenId(4), 1.0)];
        check(Sampling { bias, ..Sampling::GREEDY }, &[], &[], [101.0, 3.0, 2.0, -3.0]);
    }
}
