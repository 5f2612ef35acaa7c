//! Drawing one of the tokens that the filters keep, by the Gumbel-max trick.

use super::{Sampling, softmax::Softmax};
use crate::ids::Position;

/// The kept token with the highest noisy logit.
pub(super) fn draw(logits: &[f32], sampling: &Sampling, position: Position, scale: &Softmax) -> usize {
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
    let floor = sampling.min_p * scale.highest_probability();
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
