//! Answers that must have a form: where each stands in its grammar, so that only the tokens that continue it are drawn.
//!
//! A pure function of grammar and answer, whatever was followed before: a rolled-back answer is followed anew. An answer that has
//! left its form, which only a peer with a fault can bring about, is not held to it any more: an answer is never lost over it.

use std::sync::Arc;

use collm_core::{
    grammar::{Constraint, Follower, Grammar},
    ids::{SlotId, TokenId},
    sampling::Scoring,
};
use collm_engine::{Engine, EngineError, TokenTexts};

/// The answers of all slots that must have a form.
#[derive(Default)]
pub(crate) struct Forms {
    texts: Option<Arc<dyn TokenTexts>>,
    followed: Vec<Followed>,
}

/// One answer.
struct Followed {
    slot: SlotId,
    grammar: Grammar,
    answer: Vec<TokenId>,
    follower: Follower,
}

/// What the next token of an answer may be.
pub(crate) struct NextToken<'a> {
    texts: &'a dyn TokenTexts,
    follower: &'a mut Follower,
}

impl Constraint for NextToken<'_> {
    fn allows(&mut self, token: TokenId) -> bool {
        if self.texts.ends(token) { self.follower.may_end() } else { self.follower.allows(self.texts.bytes(token)) }
    }
}

impl Forms {
    /// Has the texts of tokens at hand if any of these rows needs them.
    pub(crate) fn prepare<'a>(
        &mut self,
        engine: &mut impl Engine,
        mut scorings: impl Iterator<Item = &'a Scoring>,
    ) -> Result<(), EngineError> {
        if self.texts.is_none() && scorings.any(|scoring| scoring.sampling.grammar.is_some()) {
            self.texts = Some(engine.token_texts()?);
        }
        Ok(())
    }

    /// What the token after a row of `slot` may be; anything if there is no form to it.
    pub(crate) fn next_token(&mut self, slot: SlotId, scoring: &Scoring) -> Option<NextToken<'_>> {
        let grammar = scoring.sampling.grammar.as_ref().filter(|_| scoring.given.is_none())?;
        let texts = self.texts.as_deref()?;
        let followed = self.followed.iter().position(|followed| followed.slot == slot);
        let index = followed.unwrap_or_else(|| {
            self.followed.push(Followed::new(slot, grammar));
            self.followed.len() - 1
        });
        let followed = &mut self.followed[index];
        if followed.grammar != *grammar || !scoring.answer.starts_with(&followed.answer) {
            *followed = Followed::new(slot, grammar);
        }
        followed.go_on(&scoring.answer, texts);
        let follower = &mut followed.follower;
        if follower.is_lost() { None } else { Some(NextToken { texts, follower }) }
    }

    /// The slot's answer is complete.
    pub(crate) fn forget(&mut self, slot: SlotId) {
        self.followed.retain(|followed| followed.slot != slot);
    }
}

impl Followed {
    fn new(slot: SlotId, grammar: &Grammar) -> Self {
        Self { slot, grammar: grammar.clone(), answer: Vec::new(), follower: Follower::new(grammar.clone()) }
    }

    fn go_on(&mut self, answer: &[TokenId], texts: &dyn TokenTexts) {
        for &token in &answer[self.answer.len()..] {
            self.follower.accept(texts.bytes(token));
            self.answer.push(token);
        }
    }
}

impl std::fmt::Debug for Forms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forms").field("followed", &self.followed.len()).finish_non_exhaustive()
    }
}
