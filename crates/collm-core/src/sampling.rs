//! From logits to a token and a confidence: a pure function of logits, settings, position and the tokens before.
//!
//! With a temperature the token is `argmax(logit / T + gumbel(seed, position, token))` over the tokens that top-k, top-p and
//! min-p keep (the Gumbel-max trick). The noise comes from a counter, not from a stream, so edge and cloud draw the same
//! noise at the same position whatever each computed before: a good guess stays a good guess, and a seed names one text.
//! `libm` instead of the platform's mathematics, since both ends must agree to the last bit.

use crate::{
    ids::{Position, TokenId},
    limits::Limits,
};

/// How tokens are drawn. The defaults draw greedily.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0: greedy, the most likely token.
    pub temperature: f32,
    /// Keep the `k` most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Keep the most likely tokens that together reach this probability; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens with at least this share of the highest probability; 0 keeps all.
    pub min_p: f32,
    /// Divides (or multiplies, below zero) the logits of recent tokens; 1 changes nothing.
    pub repeat_penalty: f32,
    /// How many tokens back count as recent.
    pub repeat_last_n: u32,
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
    pub const GREEDY: Self =
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, repeat_penalty: 1.0, repeat_last_n: 64, seed: 0 };

    /// Itself, if every setting is in range.
    ///
    /// # Errors
    /// Names the first setting that is not.
    pub fn validated(self) -> Result<Self, SamplingError> {
        let rules = [
            ("temperature", self.temperature, (0.0..=100.0).contains(&self.temperature), "between 0 and 100"),
            ("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "above 0 and at most 1"),
            ("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "between 0 and 1"),
            (
                "repeat_penalty",
                self.repeat_penalty,
                self.repeat_penalty > 0.0 && self.repeat_penalty <= 100.0,
                "above 0 and at most 100",
            ),
        ];
        let limit = Limits::DEFAULT.recent_tokens_max;
        if self.repeat_last_n > limit {
            return Err(SamplingError {
                name: "repeat_last_n",
                value: self.repeat_last_n as f32,
                range: "at most 1024",
            });
        }
        match rules.into_iter().find(|(_, _, holds, _)| !holds) {
            Some((name, value, _, range)) => Err(SamplingError { name, value, range }),
            None => Ok(self),
        }
    }

    /// How many of the last tokens [`choose`] needs to see.
    pub fn recent_needed(&self) -> u32 {
        if self.repeat_penalty == 1.0 { 0 } else { self.repeat_last_n }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self::GREEDY
    }
}

/// What a head proposes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    /// The proposed token.
    pub token: TokenId,
    /// Highest softmax probability (paper section IV-B), in `[0, 1]`.
    pub confidence: f32,
}

/// How to draw from the logits of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// Position of the row.
    pub position: Position,
    /// Settings.
    pub sampling: Sampling,
    /// Tokens under the repetition penalty.
    pub recent: Vec<TokenId>,
}

/// The logits cannot be drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the logits are empty or not finite; the model or its input is damaged")]
pub struct LogitsError;

/// Draws the token after `position`. `logits` are penalised in place; `recent` are the tokens under the penalty.
///
/// # Errors
/// When there are no logits, or one is not finite.
pub fn choose(
    logits: &mut [f32],
    sampling: &Sampling,
    position: Position,
    recent: &[TokenId],
) -> Result<Choice, LogitsError> {
    if logits.is_empty() || !logits.iter().all(|logit| logit.is_finite()) {
        return Err(LogitsError);
    }
    penalise(logits, sampling.repeat_penalty, recent);
    let best = argmax(logits);
    let scale = Softmax::of(logits, logits[best]);
    let token = if sampling.temperature > 0.0 { draw(logits, sampling, position, &scale) } else { best };
    Ok(Choice { token: TokenId(token as u32), confidence: scale.probability(logits[best]) })
}

/// Each recent token once, as llama.cpp's repetition penalty does.
fn penalise(logits: &mut [f32], penalty: f32, recent: &[TokenId]) {
    if penalty == 1.0 {
        return;
    }
    let mut tokens: Vec<usize> =
        recent.iter().map(|token| token.0 as usize).filter(|&token| token < logits.len()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    for token in tokens {
        let logit = &mut logits[token];
        *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
    }
}

/// The first of the highest.
fn argmax(logits: &[f32]) -> usize {
    // Two passes, the first of which compiles to vector code: a single pass that carries the index does not.
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits.iter().position(|&logit| logit == highest).expect("the highest is one of them")
}

/// Softmax over all logits, kept as its two constants.
struct Softmax {
    highest: f32,
    sum: f32,
}

impl Softmax {
    fn of(logits: &[f32], highest: f32) -> Self {
        // Sixteen running sums, so that the compiler may use vectors; the order of additions is fixed all the same.
        let mut sums = [0.0f32; 16];
        let mut chunks = logits.chunks_exact(sums.len());
        for chunk in &mut chunks {
            for (sum, &logit) in sums.iter_mut().zip(chunk) {
                *sum += exp(logit - highest);
            }
        }
        let rest: f32 = chunks.remainder().iter().map(|&logit| exp(logit - highest)).sum();
        Self { highest, sum: sums.iter().sum::<f32>() + rest }
    }

    fn probability(&self, logit: f32) -> f32 {
        exp(logit - self.highest) / self.sum
    }
}

/// `e^x` for `x <= 0`, to about two units in the last place, from exactly rounded operations alone: the same bits everywhere, and
/// ten times the speed of a call a value over a whole vocabulary. Method: `2^n * e^r` with `|r| <= ln 2 / 2` and the Taylor series of `e^r`.
fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding 1.5 * 2^23 leaves no bits for a fraction: rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let series =
        1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let power = f32::from_bits(((n as i32 + 127) as u32) << 23);
    series * power
}

/// The kept token with the highest noisy logit.
fn draw(logits: &[f32], sampling: &Sampling, position: Position, scale: &Softmax) -> usize {
    let noisy = |token: usize| f64::from(logits[token] / sampling.temperature) + gumbel(sampling.seed, position, token);
    kept(logits, sampling, scale)
        .into_iter()
        .map(|token| (noisy(token), token))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, token)| token)
        .expect("filters keep the most likely token")
}

/// Tokens that top-k, then top-p, then min-p keep; never none. Filters look at the distribution without temperature.
fn kept(logits: &[f32], sampling: &Sampling, scale: &Softmax) -> Vec<usize> {
    let floor = sampling.min_p * scale.probability(scale.highest);
    let mut tokens: Vec<usize> = (0..logits.len()).filter(|&token| scale.probability(logits[token]) >= floor).collect();
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        return tokens;
    }
    // Ties by token id, so that both ends keep the same ones.
    tokens.sort_unstable_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(a.cmp(&b)));
    if sampling.top_k > 0 {
        tokens.truncate(sampling.top_k as usize);
    }
    tokens.truncate(nucleus(&tokens, logits, sampling.top_p, scale));
    tokens
}

/// How many of the sorted tokens reach `top_p` of the mass that is left.
fn nucleus(sorted: &[usize], logits: &[f32], top_p: f32, scale: &Softmax) -> usize {
    let mass: f32 = sorted.iter().map(|&token| scale.probability(logits[token])).sum();
    let mut reached = 0.0;
    for (count, &token) in sorted.iter().enumerate() {
        reached += scale.probability(logits[token]);
        if reached >= top_p * mass {
            return count + 1;
        }
    }
    sorted.len()
}

/// Standard Gumbel noise, a function of its arguments alone.
fn gumbel(seed: u64, position: Position, token: usize) -> f64 {
    let counter = (u64::from(position.0) << 32) | token as u64;
    let bits = mix(mix(seed) ^ counter) >> 11;
    // Half-open (0, 1): the offset keeps both logarithms finite.
    let uniform = (bits as f64 + 0.5) / (1u64 << 53) as f64;
    -libm::log(-libm::log(uniform))
}

/// The SplitMix64 finaliser (Steele, Lea, Flood 2014): a bijection whose outputs pass statistical tests.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn token(sampling: Sampling, position: u32) -> u32 {
        choose(&mut LOGITS.clone(), &sampling, Position(position), &[]).expect("finite logits").token.0
    }

    fn warm(seed: u64) -> Sampling {
        Sampling { temperature: 1.0, seed, ..Sampling::GREEDY }
    }

    #[test]
    fn greedy_takes_the_first_highest() {
        let choice = choose(&mut [2.0, 5.0, 5.0], &Sampling::GREEDY, Position(0), &[]).expect("finite");
        assert_eq!(choice.token, TokenId(1));
        assert!((choice.confidence - 0.4879).abs() < 1e-3, "{}", choice.confidence);
    }

    #[test]
    fn the_exponential_is_accurate() {
        for step in 0..87_000 {
            let x = -(step as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 4e-7, "e^{x} came out as {}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::MIN) < 1e-37);
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
            let mut seen: Vec<u32> = (0..2_000).map(|p| token(sampling, p)).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen, expected, "{sampling:?}");
        }
    }

    #[test]
    fn the_penalty_counts_a_token_once_and_ignores_strangers() {
        let sampling = Sampling { repeat_penalty: 2.0, ..Sampling::GREEDY };
        let mut logits = [1.0, 3.0, 2.0, -1.0];
        let recent = [TokenId(1), TokenId(1), TokenId(3), TokenId(900)];
        let choice = choose(&mut logits, &sampling, Position(0), &recent).expect("finite");
        assert_eq!(logits, [1.0, 1.5, 2.0, -2.0]);
        assert_eq!(choice.token, TokenId(2));
    }

    #[test]
    fn damaged_logits_are_an_error() {
        for mut logits in [vec![], vec![1.0, f32::NAN], vec![f32::INFINITY]] {
            assert_eq!(choose(&mut logits, &Sampling::GREEDY, Position(0), &[]), Err(LogitsError));
        }
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let bad = Sampling { top_p: 0.0, ..Sampling::GREEDY };
        assert_eq!(bad.validated().map_err(|e| e.name), Err("top_p"));
        let nan = Sampling { temperature: f32::NAN, ..Sampling::GREEDY };
        assert_eq!(nan.validated().map_err(|e| e.name), Err("temperature"));
    }
}
