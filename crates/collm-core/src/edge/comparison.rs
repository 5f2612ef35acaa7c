//! Did the network help? What an answer took, against estimates of what it would have taken at one place alone.

use std::time::Duration;

use super::{Stats, outlook::CloudOnly};

/// What the same answer would have cost elsewhere, from what was measured until its end. An estimate is missing where what it needs
/// was not measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Comparison {
    /// From the request to the end at the edge alone: what this answer's prompt took there, then its later tokens at the moving
    /// average of a position through both stages, less the second stage where exit 1 answered. With other tokens, as far as the
    /// cloud corrected any.
    pub edge_only: Option<Duration>,
    /// The same in the cloud alone: one round trip and one wait in its queue, the prompt at what positions took that were computed
    /// together, later tokens at what positions took that were computed alone. Where only the layers from `e1` on were measured,
    /// scaled to all layers.
    pub cloud_only: Option<CloudOnly>,
    /// Guesses of the edge that the cloud corrected; `None` where the edge made none.
    pub corrected: Option<u32>,
}

/// Did it help?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was asked.
    Unused,
    /// The answer is better than the edge's own, or sooner, and not later than the cloud's.
    Helped,
    /// The edge alone would have said the same, sooner.
    EdgeSooner,
    /// The cloud alone would have said it sooner.
    CloudSooner,
}

impl Verdict {
    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unused => "unused",
            Self::Helped => "helped",
            Self::EdgeSooner => "edge_sooner",
            Self::CloudSooner => "cloud_sooner",
        }
    }
}

impl Stats {
    /// Whether the network helped; `None` where too little was measured to tell.
    pub fn verdict(&self) -> Option<Verdict> {
        let Comparison { edge_only, cloud_only, corrected } = self.comparison?;
        if self.asks == 0 {
            return Some(Verdict::Unused);
        }
        let is_sooner = |other: Duration| other < self.total;
        if corrected == Some(0) && is_sooner(edge_only?) {
            return Some(Verdict::EdgeSooner);
        }
        Some(if is_sooner(cloud_only?.total) { Verdict::CloudSooner } else { Verdict::Helped })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(asks: u32, corrected: Option<u32>, edge: Option<u64>, cloud: Option<u64>) -> Option<Verdict> {
        let ms = Duration::from_millis;
        let cloud_only = cloud.map(|total| CloudOnly { total: ms(total), compute: ms(total) });
        let comparison = Some(Comparison { edge_only: edge.map(ms), cloud_only, corrected });
        Stats { asks, comparison, total: ms(100), ..Stats::default() }.verdict()
    }

    #[test]
    fn the_network_helped_if_the_answer_is_better_or_sooner() {
        assert_eq!(verdict(9, Some(3), Some(50), Some(120)), Some(Verdict::Helped));
        assert_eq!(verdict(9, Some(0), Some(110), Some(120)), Some(Verdict::Helped));
        assert_eq!(verdict(9, Some(0), Some(50), Some(120)), Some(Verdict::EdgeSooner));
        assert_eq!(verdict(9, Some(3), Some(50), Some(80)), Some(Verdict::CloudSooner));
        assert_eq!(verdict(9, None, Some(50), Some(120)), Some(Verdict::Helped));
        assert_eq!(verdict(0, Some(0), None, None), Some(Verdict::Unused));
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        assert_eq!(verdict(9, Some(0), None, Some(120)), None);
        assert_eq!(verdict(9, Some(3), Some(50), None), None);
        assert_eq!(Stats::default().verdict(), None);
    }
}
