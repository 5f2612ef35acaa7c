//! What a requester says about how tokens are drawn.

use crate::{grammar::Grammar, ids::TokenId, limits::Limits};

/// How the tokens of one answer are drawn. The defaults draw greedily.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// 0: greedy, the most likely token.
    pub temperature: f32,
    /// Keep the `k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens with at least this share of the highest probability; 0 keeps all.
    pub min_p: f32,
    /// Divides (or multiplies, below zero) the logits of recent tokens, those of the prompt included; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many tokens back count as recent.
    pub repeat_last_n: u32,
    /// Taken from the logits of tokens that the answer has already.
    pub presence_penalty: f32,
    /// Taken from a token's logit for each time that the answer has it already.
    pub frequency_penalty: f32,
    /// Added to the logits of these tokens. No token twice.
    pub bias: Vec<(TokenId, f32)>,
    /// The form that the answer must have. The token is drawn anew, among those that continue it, if it does not.
    pub grammar: Option<Grammar>,
    /// Tell the log-probability of every token, and those of this many most likely ones.
    pub log_probs: Option<u32>,
    /// Names the noise.
    pub seed: u64,
}

/// Which setting of [`Sampling`] is out of range.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{name} is {value}; it must be {range}")]
pub struct SamplingError {
    /// The setting.
    pub name: &'static str,
    /// What was given.
    pub value: f32,
    /// What is allowed.
    pub range: &'static str,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repeat_penalty: 1.0,
        repeat_last_n: 64,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        bias: Vec::new(),
        grammar: None,
        log_probs: None,
        seed: 0,
    };

    /// Itself, if every setting is in range.
    ///
    /// # Errors
    /// Names the first setting that is not.
    pub fn validated(self) -> Result<Self, SamplingError> {
        let within = |value: f32, low: f32, high: f32| (low..=high).contains(&value);
        let rules = [
            ("temperature", self.temperature, within(self.temperature, 0.0, 100.0), "between 0 and 100"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, within(self.min_p, 0.0, 1.0), "between 0 and 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty <= 100.0,
                "above 0 and at most 100",
            ),
            ("presence_penalty", self.presence_penalty, within(self.presence_penalty, -2.0, 2.0), "between -2 and 2"),
            (
                "frequency_penalty",
                self.frequency_penalty,
                within(self.frequency_penalty, -2.0, 2.0),
                "between -2 and 2",
            ),
        ];
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((name, value, _, range)) => Err(SamplingError { name, value, range }),
            None => self.with_counts_in_range(&Limits::DEFAULT),
        }
    }

    fn with_counts_in_range(self, limits: &Limits) -> Result<Self, SamplingError> {
        let error = |name, value, range| Err(SamplingError { name, value, range });
        if self.repeat_last_n > limits.recent_tokens_max {
            return error("repeat_last_n", self.repeat_last_n as f32, "at most 1024");
        }
        if self.bias.len() > limits.biased_tokens_max as usize {
            return error("logit_bias", self.bias.len() as f32, "for at most 1024 tokens");
        }
        if let Some(&(_, bias)) = self.bias.iter().find(|(_, bias)| !(-100.0..=100.0).contains(bias)) {
            return error("logit_bias", bias, "between -100 and 100");
        }
        match self.log_probs {
            Some(count) if count > limits.log_probs_max => error("top_logprobs", count as f32, "at most 20"),
            _ => Ok(self),
        }
    }

    /// Whether drawing looks at the tokens before, so that whoever draws must know them.
    pub fn looks_back(&self) -> bool {
        self.repeats_matter() || self.answer_matters()
    }

    /// Whether the last tokens matter, those of the prompt included.
    pub(super) fn repeats_matter(&self) -> bool {
        self.repeat_penalty != 1.0 && self.repeat_last_n > 0
    }

    /// Whether the answer's tokens matter, all of them.
    pub(super) fn answer_matters(&self) -> bool {
        self.counts_matter() || self.grammar.is_some()
    }

    /// Whether it matters how often the answer has a token.
    pub(super) fn counts_matter(&self) -> bool {
        self.presence_penalty != 0.0 || self.frequency_penalty != 0.0
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self::GREEDY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bad: Sampling, name: &str) {
        assert_eq!(bad.validated().map_err(|error| error.name), Err(name));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        refused(Sampling { top_p: 0.0, ..Sampling::GREEDY }, "top_p");
        refused(Sampling { temperature: f32::NAN, ..Sampling::GREEDY }, "temperature");
        refused(Sampling { presence_penalty: 2.1, ..Sampling::GREEDY }, "presence_penalty");
        refused(Sampling { frequency_penalty: f32::NAN, ..Sampling::GREEDY }, "frequency_penalty");
        refused(Sampling { repeat_last_n: 1025, ..Sampling::GREEDY }, "repeat_last_n");
        refused(Sampling { log_probs: Some(21), ..Sampling::GREEDY }, "top_logprobs");
        for bias in [-100.1, f32::NAN, f32::INFINITY] {
            refused(Sampling { bias: vec![(TokenId(1), bias)], ..Sampling::GREEDY }, "logit_bias");
        }
        refused(Sampling { bias: vec![(TokenId(1), 1.0); 1025], ..Sampling::GREEDY }, "logit_bias");
        let good = Sampling { bias: vec![(TokenId(1), -100.0)], log_probs: Some(20), ..Sampling::GREEDY };
        assert_eq!(good.clone().validated(), Ok(good));
    }
}
