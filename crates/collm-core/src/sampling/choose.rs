//! One row: from its logits to the token that follows it.

use super::{LogProbs, Sampling, draw::draw, penalties, softmax::Softmax};
use crate::{
    grammar::Constraint,
    ids::{Position, TokenId},
};

/// What a head proposes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The proposed token.
    pub token: TokenId,
    /// Highest softmax probability (paper section IV-B), in `[0, 1]`.
    pub confidence: f32,
}

/// What a head says after a position.
#[derive(Debug, Clone, PartialEq)]
pub struct Scored {
    /// Its token.
    pub choice: Choice,
    /// What else it thinks, where that was asked for.
    pub log_probs: Option<LogProbs>,
}

/// How to draw from the logits of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// Position of the row.
    pub position: Position,
    /// Settings.
    pub sampling: Sampling,
    /// Tokens under the repetition penalty; empty without one.
    pub recent: Vec<TokenId>,
    /// The answer so far, for penalties that count its tokens; empty without them.
    pub answer: Vec<TokenId>,
    /// Do not draw: the token is this one, and what is wanted is how likely it was.
    pub given: Option<TokenId>,
}

/// The logits cannot be drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the logits are empty or not finite; the model or its input is damaged")]
pub struct LogitsError;

impl Scoring {
    /// After a position before which nothing matters.
    pub fn alone(position: Position, sampling: Sampling) -> Self {
        Self { position, sampling, recent: Vec::new(), answer: Vec::new(), given: None }
    }

    /// After a position of a session whose first `prompt` tokens are its prompt. `tokens` are those at positions up to this one;
    /// they may be missing if [`Sampling::looks_back`] says that they do not matter.
    pub fn after(position: Position, sampling: &Sampling, tokens: &[TokenId], prompt: u32) -> Self {
        let known = &tokens[..tokens.len().min(position.index() + 1)];
        let reach = if sampling.repeats_matter() { sampling.repeat_last_n as usize } else { 0 };
        let made = if sampling.answer_matters() { known.get(prompt as usize..) } else { None };
        Self {
            recent: known[known.len().saturating_sub(reach)..].to_vec(),
            answer: made.unwrap_or_default().to_vec(),
            ..Self::alone(position, sampling.clone())
        }
    }

    /// How likely `token` was after a position.
    pub fn of_given(position: Position, token: TokenId, sampling: &Sampling) -> Self {
        let sampling = Sampling { log_probs: Some(sampling.log_probs.unwrap_or(0)), ..Sampling::GREEDY };
        Self { given: Some(token), ..Self::alone(position, sampling) }
    }
}

/// Draws the token after a position, or says how likely a given one is. Penalties are applied to the logits in place.
///
/// # Errors
/// When there are no logits, or one is not finite.
pub fn choose(logits: &mut [f32], scoring: &Scoring) -> Result<Scored, LogitsError> {
    choose_within(logits, scoring, None)
}

/// The same among the tokens that a constraint allows, if it allows any. Most tokens of a model that was asked for a form continue
/// it anyway: the others are only looked for when one does not.
///
/// # Errors
/// As [`choose`].
pub fn choose_within(
    logits: &mut [f32],
    scoring: &Scoring,
    constraint: Option<&mut dyn Constraint>,
) -> Result<Scored, LogitsError> {
    if logits.is_empty() || !logits.iter().all(|logit| logit.is_finite()) {
        return Err(LogitsError);
    }
    // Kept only if asked for: the penalties change them.
    let own = scoring.sampling.log_probs.map(|count| (count, logits.to_vec()));
    let choice = match scoring.given {
        Some(token) if token.0 as usize >= logits.len() => return Err(LogitsError),
        Some(token) => Choice { token, confidence: Softmax::of(logits, logits[argmax(logits)]).highest_probability() },
        None => draw_within(logits, scoring, constraint),
    };
    let log_probs = own.map(|(count, own)| LogProbs::of(&own, choice.token.0 as usize, count));
    Ok(Scored { choice, log_probs })
}

fn draw_within(logits: &mut [f32], scoring: &Scoring, constraint: Option<&mut dyn Constraint>) -> Choice {
    penalties::apply(logits, scoring);
    let free = draw_one(logits, scoring);
    let Some(constraint) = constraint else { return free };
    let stays = constraint.allows(free.token) || !mask(logits, constraint);
    if stays { free } else { draw_one(logits, scoring) }
}

/// Makes what is not allowed impossible. Whether anything is left.
fn mask(logits: &mut [f32], constraint: &mut dyn Constraint) -> bool {
    let mut some_left = false;
    for (token, logit) in (0..).map(TokenId).zip(logits) {
        if constraint.allows(token) {
            some_left = true;
        } else {
            *logit = f32::NEG_INFINITY;
        }
    }
    some_left
}

fn draw_one(logits: &[f32], scoring: &Scoring) -> Choice {
    let sampling = &scoring.sampling;
    let best = argmax(logits);
    let scale = Softmax::of(logits, logits[best]);
    let token = if sampling.temperature > 0.0 { draw(logits, sampling, scoring.position, &scale) } else { best };
    Choice { token: TokenId(token as u32), confidence: scale.highest_probability() }
}

/// The first of the highest.
fn argmax(logits: &[f32]) -> usize {
    // Two passes, the first of which compiles to vector code: a single pass that carries the index does not.
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == highest).expect("the highest is one of them")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn token(sampling: Sampling, position: u32) -> u32 {
        choice(&mut LOGITS.clone(), &Scoring::alone(Position(position), sampling)).token.0
    }

    fn choice(logits: &mut [f32], scoring: &Scoring) -> Choice {
        choose(logits, scoring).expect("finite logits").choice
    }

    fn warm(seed: u64) -> Sampling {
        Sampling { temperature: 1.0, seed, ..Sampling::GREEDY }
    }

    #[test]
    fn greedy_takes_the_first_highest() {
        let choice = choice(&mut [2.0, 5.0, 5.0], &Scoring::alone(Position(0), Sampling::GREEDY));
        assert_eq!(choice.token, TokenId(1));
        assert!((choice.confidence - 0.4879).abs() < 1e-3, "{}", choice.confidence);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let mut counts = [0u32; 4];
        for position in 0..20_000 {
            counts[token(warm(7), position) as usize] += 1;
        }
        let total: f64 = LOGITS.iter().map(|&l| f64::from(l).exp()).sum();
        for (index, &count) in counts.iter().enumerate() {
            let expected = f64::from(LOGITS[index]).exp() / total;
            assert!(
                (f64::from(count) / 20_000.0 - expected).abs() < 0.015,
                "token {index}: {count}, expected {expected}"
            );
        }
    }

    #[test]
    fn a_seed_and_a_position_name_the_draw() {
        let text = |seed| (0..64).map(|p| token(warm(seed), p)).collect::<Vec<_>>();
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
    }

    #[test]
    fn filters_keep_only_the_likely() {
        let cases = [
            (Sampling { top_k: 1, ..warm(3) }, vec![1]),
            (Sampling { top_k: 2, ..warm(3) }, vec![1, 2]),
            (Sampling { top_p: 0.6, ..warm(3) }, vec![1]),
            (Sampling { top_p: 0.7, ..warm(3) }, vec![1, 2]),
            (Sampling { min_p: 0.3, ..warm(3) }, vec![1, 2]),
            (Sampling { min_p: 1.0, ..warm(3) }, vec![1]),
        ];
        for (sampling, expected) in cases {
            let mut seen: Vec<u32> = (0..2_000).map(|p| token(sampling.clone(), p)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, expected, "{sampling:?}");
        }
    }

    #[test]
    fn damaged_logits_are_an_error() {
        for mut logits in [vec![], vec![1.0, f32::NAN], vec![f32::INFINITY]] {
            assert_eq!(choose(&mut logits, &Scoring::alone(Position(0), Sampling::GREEDY)), Err(LogitsError));
        }
    }

    #[test]
    fn a_given_token_is_not_drawn_but_told_of() {
        let sampling = Sampling { log_probs: Some(2), presence_penalty: 2.0, ..warm(1) };
        let told = choose(&mut LOGITS.clone(), &Scoring::of_given(Position(3), TokenId(3), &sampling)).expect("finite");
        assert_eq!(told.choice.token, TokenId(3));
        let log_probs = told.log_probs.expect("asked for");
        assert_eq!(log_probs.top.iter().map(|entry| entry.token.0).collect::<Vec<_>>(), [1, 2]);
        assert!(log_probs.own < log_probs.top[1].log_prob, "{log_probs:?}");
        let outside = Scoring::of_given(Position(3), TokenId(4), &sampling);
        assert_eq!(choose(&mut LOGITS.clone(), &outside), Err(LogitsError));
    }

    #[test]
    fn log_probs_are_of_the_model_and_not_of_the_settings() {
        let bias = vec![(TokenId(1), -100.0)];
        let sampling = Sampling { log_probs: Some(1), bias, ..Sampling::GREEDY };
        let told = choose(&mut LOGITS.clone(), &Scoring::alone(Position(0), sampling)).expect("finite");
        assert_eq!(told.choice.token, TokenId(2));
        assert_eq!(told.log_probs.expect("asked for").top[0].token, TokenId(1));
    }

    #[test]
    fn what_is_not_allowed_is_not_drawn() {
        struct Only(Vec<u32>);
        impl Constraint for Only {
            fn allows(&mut self, token: TokenId) -> bool {
                self.0.contains(&token.0)
            }
        }
        let drawn = |sampling: Sampling, position: u32, allowed: &[u32]| {
            let scoring = Scoring::alone(Position(position), sampling);
            let mut only = Only(allowed.to_vec());
            choose_within(&mut LOGITS.clone(), &scoring, Some(&mut only)).expect("finite").choice
        };
        assert_eq!(drawn(Sampling::GREEDY, 0, &[0, 3]).token, TokenId(0));
        assert_eq!(drawn(Sampling::GREEDY, 0, &[]).token, TokenId(1), "nothing is allowed, and something must be said");
        assert_eq!(drawn(Sampling::GREEDY, 0, &[3]), Choice { token: TokenId(3), confidence: 1.0 });
        for position in 0..200 {
            let narrow = Sampling { top_k: 2, ..warm(9) };
            assert!([0, 3].contains(&drawn(narrow, position, &[0, 3]).token.0));
            assert_eq!(drawn(warm(9), position, &[0, 1, 2, 3]).token.0, token(warm(9), position));
        }
    }

    #[test]
    fn a_row_takes_what_its_settings_look_at() {
        let tokens: Vec<TokenId> = (10..16).map(TokenId).collect();
        let after = |sampling: Sampling| {
            let scoring = Scoring::after(Position(4), &sampling, &tokens, 3);
            (scoring.recent, scoring.answer)
        };
        assert_eq!(after(Sampling::GREEDY), (vec![], vec![]));
        let repeat = Sampling { repeat_penalty: 1.1, repeat_last_n: 2, ..Sampling::GREEDY };
        assert_eq!(after(repeat), (tokens[3..5].to_vec(), vec![]));
        let counted = Sampling { frequency_penalty: 0.1, ..Sampling::GREEDY };
        assert_eq!(after(counted), (vec![], tokens[3..5].to_vec()));
    }
}
