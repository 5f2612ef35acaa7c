//! Forms that an answer may be held to, such as the JSON of a schema: which texts have the form, byte by byte.
//!
//! A [`Grammar`] is a small program, so that it can be sent to the cloud, checked at a glance and run without recursion; an
//! [`Expression`] is how people write one; a [`Follower`] runs it over a text. Both ends run the same program over the same text,
//! and so allow the same tokens. It is not llama.cpp's grammar, on purpose: programs come from peers, and that one throws and aborts.

mod expression;
mod follower;

use std::sync::Arc;

pub use expression::{Expression, TooLarge};
pub use follower::{Constraint, Follower};

/// A step of a grammar's program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The text goes on with a byte from `low` to `high`, and the program with the next step.
    Byte {
        /// The first of them.
        low: u8,
        /// The last.
        high: u8,
    },
    /// The program goes on at either.
    Either(u32, u32),
    /// The program goes on there.
    Jump(u32),
    /// The program goes on there, and after the [`Step::Return`] that ends it, here.
    Call(u32),
    /// The end of what was called; of the text, if nothing was.
    Return,
}

/// A form, from the first byte of an answer to its last. Every step leads to another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grammar(Arc<[Step]>);

/// Why steps are no grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// Nothing to begin with.
    #[error("a grammar without steps holds nothing")]
    Empty,
    /// More than can be followed in time.
    #[error("a grammar of {steps} steps is too large; at most {}", Grammar::STEPS_MAX)]
    TooLarge {
        /// How many there are.
        steps: usize,
    },
    /// A step that leads out of the program.
    #[error("step {step} of a grammar leads nowhere")]
    Nowhere {
        /// Its index.
        step: usize,
    },
}

impl Grammar {
    /// Steps that a grammar may have.
    pub const STEPS_MAX: usize = 16_384;

    /// Takes steps as a grammar, if each of them leads to another.
    ///
    /// # Errors
    /// When there are none or too many, or one leads nowhere.
    pub fn parse(steps: Vec<Step>) -> Result<Self, GrammarError> {
        if steps.is_empty() {
            return Err(GrammarError::Empty);
        }
        if steps.len() > Self::STEPS_MAX {
            return Err(GrammarError::TooLarge { steps: steps.len() });
        }
        let is_there = |target: u32| (target as usize) < steps.len();
        let leads_on = |(index, step): (usize, &Step)| match *step {
            Step::Byte { .. } => index + 1 < steps.len(),
            Step::Either(one, other) => is_there(one) && is_there(other),
            Step::Jump(target) => is_there(target),
            Step::Call(target) => is_there(target) && index + 1 < steps.len(),
            Step::Return => true,
        };
        match steps.iter().enumerate().position(|step| !leads_on(step)) {
            Some(step) => Err(GrammarError::Nowhere { step }),
            None => Ok(Self(steps.into())),
        }
    }

    /// The program.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_leads_to_another() {
        let byte = Step::Byte { low: 0, high: 255 };
        assert!(Grammar::parse(vec![byte, Step::Return]).is_ok());
        assert_eq!(Grammar::parse(vec![]), Err(GrammarError::Empty));
        for last in [byte, Step::Call(0), Step::Jump(2), Step::Either(0, 2), Step::Call(9)] {
            assert_eq!(Grammar::parse(vec![Step::Return, last]), Err(GrammarError::Nowhere { step: 1 }), "{last:?}");
        }
        let many = vec![Step::Return; Grammar::STEPS_MAX + 1];
        assert!(matches!(Grammar::parse(many), Err(GrammarError::TooLarge { .. })));
    }
}
