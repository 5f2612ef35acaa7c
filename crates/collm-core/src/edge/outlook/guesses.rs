//! How often guesses were right, and how sure the edge was of its tokens.

use std::collections::VecDeque;

use crate::policy::Threshold;

/// Confidences are pooled in so many classes.
const CLASSES: usize = 10;

/// How often guesses that were asked about were right, by confidence.
#[derive(Debug, Default)]
pub(super) struct Guesses([Tally; CLASSES]);

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    right: u32,
    all: u32,
}

impl Guesses {
    pub(super) fn add(&mut self, confidence: f32, right: bool) {
        let tally = &mut self.0[class(confidence)];
        tally.all += 1;
        tally.right += u32::from(right);
    }

    /// How likely a guess of this confidence is right: what was seen, leaning on the confidence itself while little was.
    pub(super) fn likely(&self, confidence: f32) -> f32 {
        const PRIOR_WEIGHT: f32 = 4.0;
        let tally = self.0[class(confidence)];
        (tally.right as f32 + PRIOR_WEIGHT * confidence) / (tally.all as f32 + PRIOR_WEIGHT)
    }
}

fn class(confidence: f32) -> usize {
    ((confidence * CLASSES as f32) as usize).min(CLASSES - 1)
}

/// How sure the edge was of its own guesses for the last tokens that were committed, whoever decided them.
#[derive(Debug)]
pub(in crate::edge) struct Confidences(VecDeque<f32>);

impl Default for Confidences {
    /// As if a few had been seen, everywhere in between: so there is an answer before the first, and the first ones outweigh it.
    fn default() -> Self {
        const ASSUMED: u8 = 8;
        Self((0..ASSUMED).map(|index| (f32::from(index) + 0.5) / f32::from(ASSUMED)).collect())
    }
}

impl Confidences {
    /// So many are remembered.
    const WINDOW: usize = 256;

    pub(in crate::edge) fn add(&mut self, confidence: f32) {
        if self.0.len() == Self::WINDOW {
            self.0.pop_front();
        }
        self.0.push_back(confidence);
    }

    /// The highest threshold below which at most this share of them lies.
    pub(in crate::edge) fn threshold_of(&self, share: f64) -> Threshold {
        if share >= 1.0 {
            return Threshold::NEVER;
        }
        let below = (share.max(0.0) * self.0.len() as f64) as usize;
        if below == 0 && share <= 0.0 {
            return Threshold::ALWAYS;
        }
        let mut confidences: Vec<f32> = self.0.iter().copied().collect();
        let (_, &mut confidence, _) = confidences.select_nth_unstable_by(below, f32::total_cmp);
        Threshold::new(confidence).unwrap_or(Threshold::ALWAYS)
    }

    /// Share of them that a threshold does not admit.
    pub(super) fn share_below(&self, threshold: Threshold) -> f64 {
        let below = self.0.iter().filter(|&&confidence| confidence < threshold.value()).count();
        below as f64 / self.0.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_outweighs_the_confidence() {
        let mut guesses = Guesses::default();
        assert_eq!(guesses.likely(0.35), 0.35);
        for _ in 0..100 {
            guesses.add(0.35, true);
        }
        assert!(guesses.likely(0.35) > 0.95);
        assert_eq!(guesses.likely(0.75), 0.75, "other classes are untouched");
    }

    #[test]
    fn thresholds_and_shares_are_each_other_s_inverse() {
        let mut confidences = Confidences::default();
        (0..1000).for_each(|index| confidences.add((index % 100) as f32 / 100.0));
        for share in [0.01, 0.2, 0.5, 0.99] {
            let below = confidences.share_below(confidences.threshold_of(share));
            assert!(below <= share && below > share - 0.02, "{below} of {share}");
        }
        assert_eq!(confidences.threshold_of(0.0), Threshold::ALWAYS);
        assert_eq!(confidences.threshold_of(1.0), Threshold::NEVER);
    }

    #[test]
    fn equal_confidences_are_not_split() {
        let mut confidences = Confidences::default();
        (0..Confidences::WINDOW).for_each(|_| confidences.add(1.0));
        assert_eq!(confidences.share_below(confidences.threshold_of(0.2)), 0.0, "at most means at most");
        assert_eq!(confidences.share_below(Threshold::NEVER), 1.0);
    }
}
