//! What answers must be, straight from the script: no sessions, no frames, no states. Position by position, one after the
//! other, as the stalling algorithm of the paper does it.

use std::sync::Arc;

use collm_core::{
    edge::{EdgeConfig, FinishReason, Request, SecondStage, Source},
    grammar::{Constraint, Follower},
    ids::{Position, TokenId},
    policy::{Decision, Mode, Policy},
    sampling::{LogProbs, Scored, Scoring, choose, choose_within},
};
use collm_engine::{
    Head, TokenTexts,
    scripted::{Script, letters},
};

/// Knows what every head says after every prefix of one answer.
#[derive(Debug, Clone)]
pub struct Oracle {
    script: Script,
    request: Request,
    policy: Policy,
    context: u32,
    second: SecondStage,
}

/// The answer that the stalling algorithm gives when nothing goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// The tokens, and who decides each.
    pub tokens: Vec<(TokenId, Source)>,
    /// Why it ends.
    pub reason: FinishReason,
}

impl Oracle {
    /// For one request to one edge.
    pub fn new(script: &Script, request: &Request, config: &EdgeConfig) -> Self {
        Self {
            script: script.clone(),
            request: request.clone(),
            policy: Policy::of(request.mode, request.thresholds, config.has_exit1),
            context: config.context,
            second: config.second,
        }
    }

    /// The rule that is in force for all tokens, where neither a budget nor mode auto sets it.
    pub fn policy(&self) -> Policy {
        self.policy
    }

    /// The whole answer.
    pub fn reference(&self) -> Reference {
        let mut prefix = self.request.prompt.clone();
        let mut tokens = Vec::new();
        if self.request.tokens_max == 0 {
            return Reference { tokens, reason: FinishReason::Length };
        }
        loop {
            let (Scored { choice, .. }, source) = self.decide(self.policy, &prefix);
            prefix.push(choice.token);
            tokens.push((choice.token, source));
            if let Some(reason) = self.reason(&prefix) {
                return Reference { tokens, reason };
            }
        }
    }

    /// The next token under a policy, and who decides it while the cloud is there.
    pub fn decide(&self, policy: Policy, prefix: &[TokenId]) -> (Scored, Source) {
        if self.request.mode == Mode::Cloud {
            return (self.says(Head::Final, prefix), Source::Cloud);
        }
        if self.second == SecondStage::Whole {
            return (self.says(Head::Final, prefix), Source::Whole);
        }
        self.leaves_early(policy, prefix).unwrap_or_else(|| (self.says(Head::Final, prefix), Source::Cloud))
    }

    /// The token that one of the edge's exits is sure enough of.
    fn leaves_early(&self, policy: Policy, prefix: &[TokenId]) -> Option<(Scored, Source)> {
        let first = self.says(Head::Exit1, prefix);
        if policy.at_exit1(first.choice) == Decision::Emit {
            return Some((first, Source::Exit1));
        }
        let second = self.says(Head::Exit2, prefix);
        (policy.at_exit2(second.choice) == Decision::Emit).then_some((second, Source::Exit2))
    }

    /// The next token under a policy, and who decides it, while the cloud is not there.
    pub fn decide_alone(&self, policy: Policy, prefix: &[TokenId]) -> (Scored, Source) {
        self.leaves_early(policy, prefix).unwrap_or_else(|| (self.says(Head::Exit2, prefix), Source::Exit2))
    }

    /// Who says how likely the prompt's tokens were, while the cloud is there or not.
    pub fn scores_prompt(&self, attended: bool) -> Source {
        match self.second {
            _ if attended && self.request.mode.uses_cloud() => Source::Cloud,
            SecondStage::Whole => Source::Whole,
            SecondStage::Tail => Source::Exit2,
        }
    }

    /// How likely the last token of `prefix` was, in the words of `source`.
    pub fn likelihood(&self, prefix: &[TokenId], source: Source) -> LogProbs {
        let head = if source == Source::Exit2 { Head::Exit2 } else { Head::Final };
        let (&given, before) = prefix.split_last().expect("nothing is said of a first token");
        let scoring = Scoring::of_given(Position(before.len() as u32 - 1), given, &self.request.sampling);
        let scored = choose(&mut self.script.logits(head, before), &scoring).expect("scripted logits are finite");
        scored.log_probs.expect("told of given tokens")
    }

    /// What a head proposes after a prefix.
    fn says(&self, head: Head, prefix: &[TokenId]) -> Scored {
        let Request { sampling, prompt, .. } = &self.request;
        let scoring = Scoring::after(Position(prefix.len() as u32 - 1), sampling, prefix, prompt.len() as u32);
        let mut form = self.form_of(&prefix[prompt.len()..]);
        let constraint = form.as_mut().map(|form| form as &mut dyn Constraint);
        choose_within(&mut self.script.logits(head, prefix), &scoring, constraint).expect("scripted logits are finite")
    }

    /// Where an answer stands in the form that it must have, unless it has left it.
    fn form_of(&self, answer: &[TokenId]) -> Option<Form> {
        let mut follower = Follower::new(self.request.sampling.grammar.clone()?);
        let texts = letters();
        answer.iter().for_each(|token| follower.accept(texts.bytes(*token)));
        (!follower.is_lost()).then_some(Form { texts, follower })
    }

    /// Why the answer ends with the last token of `sequence` (prompt included), if it does.
    pub fn reason(&self, sequence: &[TokenId]) -> Option<FinishReason> {
        let last = sequence.last().expect("prompts are not empty");
        if self.request.stop.contains(last) {
            Some(FinishReason::Stop)
        } else if sequence.len() - self.request.prompt.len() >= self.request.tokens_max as usize {
            Some(FinishReason::Length)
        } else if sequence.len() >= self.context as usize {
            Some(FinishReason::Context)
        } else {
            None
        }
    }
}

/// Where one answer stands.
struct Form {
    texts: Arc<dyn TokenTexts>,
    follower: Follower,
}

impl Constraint for Form {
    fn allows(&mut self, token: TokenId) -> bool {
        if self.texts.ends(token) { self.follower.may_end() } else { self.follower.allows(self.texts.bytes(token)) }
    }
}
