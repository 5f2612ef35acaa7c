//! Which number says how sure an exit is of its guess. Computing it is the runtime's business, fitting it the tuner's.

use std::fmt;
use std::str::FromStr;

/// How an exit's confidence is measured; always in `[0, 1]`, higher being surer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfidenceMeasure {
    /// The highest probability `p1`: the paper's measure.
    MaxProb,
    /// `p1 - p2`: how far the guess is ahead of the runner-up.
    Margin,
    /// `1 - H / ln(K)`: how far the entropy `H` of `K` probabilities is below its maximum.
    Entropy,
    /// A small predictor of "this guess is the whole model's token", fitted and calibrated for one exit of one edge part.
    Gate,
}

/// The text names no measure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no measure of confidence; there are max-prob, margin, entropy and gate")]
pub struct UnknownConfidenceMeasure(String);

impl ConfidenceMeasure {
    /// Every measure.
    pub const ALL: [Self; 4] = [Self::MaxProb, Self::Margin, Self::Entropy, Self::Gate];

    /// The word people type and files hold.
    pub fn name(self) -> &'static str {
        match self {
            Self::MaxProb => "max-prob",
            Self::Margin => "margin",
            Self::Entropy => "entropy",
            Self::Gate => "gate",
        }
    }
}

impl fmt::Display for ConfidenceMeasure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ConfidenceMeasure {
    type Err = UnknownConfidenceMeasure;

    fn from_str(text: &str) -> Result<Self, UnknownConfidenceMeasure> {
        let named = Self::ALL.into_iter().find(|measure| measure.name() == text);
        named.ok_or_else(|| UnknownConfidenceMeasure(text.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for measure in ConfidenceMeasure::ALL {
            assert_eq!(measure.to_string().parse(), Ok(measure));
        }
        assert!("Max-Prob".parse::<ConfidenceMeasure>().is_err(), "files hold one spelling");
    }
}
