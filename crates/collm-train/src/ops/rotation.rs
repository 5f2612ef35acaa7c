//! Rotary position embedding, as a table of cosines and sines.

use collm_model::{Hyperparameters, RopeKind};

/// The rotations of positions `0..positions`, for layers of one kind.
#[derive(Debug)]
pub(crate) struct Rotation {
    kind: RopeKind,
    /// Pairs turned in a head.
    pairs: usize,
    /// Values of a head.
    head: usize,
    /// For every position, `pairs` cosines and as many sines.
    turns: Vec<[f32; 2]>,
}

/// Which way to turn. Turning back is also the gradient of turning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    There,
    Back,
}

impl Rotation {
    /// `local` says whether the layers attend to a window only; `factors` divide the frequencies of global and local layers.
    pub(crate) fn new(h: &Hyperparameters, local: bool, factors: Option<&[f32]>, positions: usize) -> Self {
        let rope = &h.rope;
        let (base, scale) = match rope.base_local {
            Some(base) if local => (base, 1.0),
            _ => (rope.base, rope.frequency_scale),
        };
        let pairs = rope.dimensions as usize / 2;
        let frequency = |pair: usize| {
            let factor = factors.map_or(1.0, |factors| f64::from(factors[pair]));
            f64::from(base).powf(-(pair as f64) / pairs as f64) * f64::from(scale) / factor
        };
        let frequencies: Vec<f64> = (0..pairs).map(frequency).collect();
        let size = f64::from(rope.attn_factor);
        let turn = |angle: f64| [(angle.cos() * size) as f32, (angle.sin() * size) as f32];
        let turns = (0..positions).flat_map(|p| frequencies.iter().map(move |f| turn(p as f64 * f))).collect();
        Self { kind: h.architecture.rope_kind(), pairs, head: h.head_dim_k as usize, turns }
    }

    /// Turns all heads of `rows`, states of consecutive positions from 0 with `width` values each.
    pub(crate) fn turn(&self, rows: &mut [f32], width: usize, way: Way) {
        for (row, turns) in rows.chunks_exact_mut(width).zip(self.turns.chunks_exact(self.pairs)) {
            for head in row.chunks_exact_mut(self.head) {
                self.turn_head(head, turns, way);
            }
        }
    }

    fn turn_head(&self, head: &mut [f32], turns: &[[f32; 2]], way: Way) {
        let sign = if way == Way::There { 1.0 } else { -1.0 };
        let rotated =
            |a: f32, b: f32, [cosine, sine]: [f32; 2]| (a * cosine - b * sine * sign, b * cosine + a * sine * sign);
        match self.kind {
            RopeKind::Adjacent => {
                for ([a, b], turn) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    (*a, *b) = rotated(*a, *b, *turn);
                }
            }
            RopeKind::Halves => {
                let (first, second) = head.split_at_mut(self.pairs);
                for ((a, b), turn) in first.iter_mut().zip(second).zip(turns) {
                    (*a, *b) = rotated(*a, *b, *turn);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Rotation of whole heads with base 10,000.
    pub(crate) fn plain(kind: RopeKind, head: usize, positions: usize) -> Rotation {
        let pairs = head / 2;
        let angle = |p: usize, pair: usize| p as f32 * 10_000f32.powf(-(pair as f32) / pairs as f32);
        let turns = (0..positions).flat_map(|p| (0..pairs).map(move |pair| angle(p, pair)));
        Rotation { kind, pairs, head, turns: turns.map(|angle| [angle.cos(), angle.sin()]).collect() }
    }

    #[test]
    fn turning_back_undoes_turning() {
        for kind in [RopeKind::Adjacent, RopeKind::Halves] {
            let rotation = plain(kind, 8, 5);
            let given: Vec<f32> = (0..5 * 16).map(|value| value as f32 * 0.1).collect();
            let mut rows = given.clone();
            rotation.turn(&mut rows, 16, Way::There);
            assert!(rows[..16] == given[..16] && rows[16..] != given[16..]);
            rotation.turn(&mut rows, 16, Way::Back);
            assert!(rows.iter().zip(&given).all(|(a, b)| (a - b).abs() < 1e-4));
        }
    }
}
