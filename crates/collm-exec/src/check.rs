//! An exit's check, after the engine's part of it: from a row of logits to a token and a confidence.
//!
//! The confidence is of what the exit's check sees, which is the row's shortlist if the exit makes one. It means the same where all
//! of the vocabulary was scored, and before penalties, which are the requester's and not the model's.

use collm_core::{
    confidence::ConfidenceMeasure,
    distribution::Distribution,
    grammar::Constraint,
    ids::{Position, TokenId},
    sampling::{LogitsError, Scored, Scoring, choose, choose_within},
};

use collm_engine::{Head, ScoredRow};

use crate::gate::{Gate, features_of};

/// The logit of a token that was not scored: far below any other, and finite after any penalty.
const NOT_SCORED: f32 = -1e30;

/// How an exit says how sure it is of its guess.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Judge {
    /// The highest probability (paper section IV-B).
    #[default]
    MaxProb,
    /// How far the highest probability is ahead of the next.
    Margin,
    /// How far the entropy is below its maximum.
    Entropy,
    /// A fitted predictor.
    Gate(Gate),
}

/// How the exits of an edge say how sure they are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Judges {
    /// Of exit 1.
    pub exit1: Judge,
    /// Of exit 2.
    pub exit2: Judge,
}

impl Judge {
    /// The measure that it computes.
    pub fn measure(&self) -> ConfidenceMeasure {
        match self {
            Self::MaxProb => ConfidenceMeasure::MaxProb,
            Self::Margin => ConfidenceMeasure::Margin,
            Self::Entropy => ConfidenceMeasure::Entropy,
            Self::Gate(_) => ConfidenceMeasure::Gate,
        }
    }

    /// In `[0, 1]`. `logits` are of what the exit's check sees, `state` is what the LM head read.
    pub fn confidence(&self, logits: &[f32], state: &[f32], position: Position) -> f32 {
        let distribution = Distribution::of(logits);
        match self {
            Self::MaxProb => distribution.max_prob(),
            Self::Margin => distribution.margin(),
            Self::Entropy => distribution.certainty(),
            Self::Gate(gate) => gate.confidence(state, &features_of(&distribution, position)),
        }
    }
}

impl Judges {
    /// Of exit 1 and exit 2.
    pub fn measures(&self) -> [ConfidenceMeasure; 2] {
        [self.exit1.measure(), self.exit2.measure()]
    }

    /// A model's own head says it by its highest probability.
    pub(crate) fn of(&self, head: Head) -> &Judge {
        match head {
            Head::Exit1 => &self.exit1,
            Head::Exit2 => &self.exit2,
            Head::Final => &Judge::MaxProb,
        }
    }
}

/// The check of one exit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check<'a> {
    pub(crate) judge: &'a Judge,
    /// Tokens of the model.
    pub(crate) vocabulary: usize,
}

impl Check<'_> {
    /// What the exit says after one row. `spare` is memory to work in.
    pub(crate) fn row(
        self,
        mut row: ScoredRow<'_>,
        scoring: &Scoring,
        constraint: Option<&mut dyn Constraint>,
        spare: &mut Vec<f32>,
    ) -> Result<Scored, LogitsError> {
        row.unify();
        let ScoredRow { logits, shortlist, state } = row;
        let Some(shortlist) = shortlist else { return self.without_shortlist(logits, state, scoring, constraint) };
        let confidence = self.judge.confidence(shortlist.logits, state, scoring.position);
        let scored = if !logits.is_empty() {
            choose_within(logits, scoring, constraint)
        } else if constraint.is_none() && is_best(scoring) {
            choose(shortlist.logits, scoring).map(|scored| of_shortlist(scored, shortlist.tokens))
        } else {
            // Damaged logits stay damaged, and are refused with the row.
            spare.clear();
            spare.resize(self.vocabulary, NOT_SCORED);
            shortlist.write_to(spare);
            choose_within(spare, scoring, constraint)
        };
        scored.map(|scored| with_confidence(scored, confidence))
    }

    fn without_shortlist(
        self,
        logits: &mut [f32],
        state: &[f32],
        scoring: &Scoring,
        constraint: Option<&mut dyn Constraint>,
    ) -> Result<Scored, LogitsError> {
        // Drawing finds the highest probability anyway.
        if *self.judge == Judge::MaxProb {
            return choose_within(logits, scoring, constraint);
        }
        let confidence = self.judge.confidence(logits, state, scoring.position);
        choose_within(logits, scoring, constraint).map(|scored| with_confidence(scored, confidence))
    }
}

fn with_confidence(mut scored: Scored, confidence: f32) -> Scored {
    scored.choice.confidence = confidence;
    scored
}

/// Whether the token is the likeliest, whatever its id: then it need not be looked for in all of the vocabulary.
fn is_best(scoring: &Scoring) -> bool {
    scoring.sampling.temperature == 0.0
        && scoring.recent.is_empty()
        && scoring.answer.is_empty()
        && scoring.given.is_none()
        && scoring.sampling.bias.is_empty()
        && scoring.sampling.log_probs.is_none()
}

/// What was chosen by its place in the shortlist, by its id.
fn of_shortlist(mut scored: Scored, shortlist: &[TokenId]) -> Scored {
    scored.choice.token = shortlist[scored.choice.token.0 as usize];
    scored
}

#[cfg(test)]
mod tests {
    use collm_core::sampling::Sampling;
    use collm_engine::Shortlist;

    use super::*;

    const FULL: [f32; 6] = [1.0, 5.0, 0.0, 4.0, 2.0, -1.0];

    const LISTED: [TokenId; 3] = [TokenId(0), TokenId(3), TokenId(4)];

    /// What a check says of these logits, and of a shortlist if some are given for [`LISTED`].
    fn said(judge: &Judge, full: &[f32], listed: Option<&[f32]>, scoring: &Scoring) -> Result<Scored, LogitsError> {
        let (mut logits, mut listed) = (full.to_vec(), listed.map(<[f32]>::to_vec));
        let shortlist = listed.as_mut().map(|logits| Shortlist { tokens: &LISTED, logits });
        let row = ScoredRow { logits: &mut logits, shortlist, state: &[] };
        Check { judge, vocabulary: FULL.len() }.row(row, scoring, None, &mut Vec::new())
    }

    fn greedy(judge: &Judge, full: &[f32], listed: Option<&[f32]>) -> (u32, f32) {
        let choice = said(judge, full, listed, &Scoring::alone(Position(4), Sampling::GREEDY)).unwrap().choice;
        (choice.token.0, choice.confidence)
    }

    #[test]
    fn a_shortlist_says_how_sure_it_is_in_either_scope() {
        let listed = [1.0, 4.0, 2.0];
        let brief = greedy(&Judge::MaxProb, &[], Some(&listed));
        let full = greedy(&Judge::MaxProb, &FULL, Some(&listed));
        assert_eq!((brief.0, full.0), (3, 1));
        assert_eq!(brief.1, full.1);
        let expected = 1.0 / (1.0 + (-2.0f32).exp() + (-3.0f32).exp());
        assert!((brief.1 - expected).abs() < 1e-6, "{}", brief.1);
    }

    #[test]
    fn a_token_has_the_logit_of_the_shortlist_in_either_scope() {
        let listed = [1.0, 5.5, 2.0];
        assert_eq!(greedy(&Judge::MaxProb, &FULL, Some(&listed)), greedy(&Judge::MaxProb, &[], Some(&listed)));
    }

    #[test]
    fn measures_differ() {
        let of = |judge: Judge| greedy(&judge, &FULL, None);
        let total: f32 = FULL.iter().map(|logit| logit.exp()).sum();
        let (first, second) = (5f32.exp() / total, 4f32.exp() / total);
        let entropy: f32 = FULL.iter().map(|logit| -logit.exp() / total * (logit.exp() / total).ln()).sum();
        let expected =
            [(Judge::MaxProb, first), (Judge::Margin, first - second), (Judge::Entropy, 1.0 - entropy / 6f32.ln())];
        for (judge, expected) in expected {
            let found = of(judge.clone());
            assert_eq!(found.0, 1);
            assert!((found.1 - expected).abs() < 1e-5, "{judge:?}: {} is not {expected}", found.1);
        }
    }

    #[test]
    fn nothing_outside_the_shortlist_is_drawn() {
        for seed in 0..200 {
            let sampling = Sampling { temperature: 50.0, repeat_penalty: 1.5, seed, ..Sampling::GREEDY };
            let mut scoring = Scoring::alone(Position(1), sampling);
            scoring.recent = (0..6).map(TokenId).collect();
            let scored = said(&Judge::MaxProb, &[], Some(&[1.0, 4.0, 2.0]), &scoring).unwrap();
            assert!(LISTED.contains(&scored.choice.token), "{:?}", scored.choice);
        }
    }

    #[test]
    fn damaged_logits_are_refused_in_every_scope() {
        let scoring = Scoring::alone(Position(0), Sampling::GREEDY);
        let said = |full: &[f32], listed: Option<&[f32]>| said(&Judge::Margin, full, listed, &scoring);
        let mut full = FULL;
        full[5] = f32::INFINITY;
        assert_eq!(said(&[], Some(&[1.0, f32::NAN, 0.0])), Err(LogitsError));
        assert_eq!(said(&full, Some(&[1.0, 4.0, 2.0])), Err(LogitsError));
        assert_eq!(said(&full, None), Err(LogitsError));
    }
}
