//! A number with its interval, as reports have it.

use collm_stats::Interval;
use serde::Serialize;

/// A figure, and the 95 % interval over answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Figure {
    value: f64,
    low: f64,
    high: f64,
}

impl From<Interval> for Figure {
    fn from(interval: Interval) -> Self {
        Self { value: interval.estimate, low: interval.low, high: interval.high }
    }
}

impl Figure {
    /// `73.1 % (70.0–76.2)`.
    pub(super) fn percent(&self) -> String {
        let Self { value, low, high } = self;
        format!("{:.1} % ({:.1}–{:.1})", 100.0 * value, 100.0 * low, 100.0 * high)
    }

    /// `+1.3 points (-0.2 to 2.4)`: of a difference of shares.
    pub(super) fn points(&self) -> String {
        let Self { value, low, high } = self;
        format!("{:+.1} points ({:.1} to {:.1})", 100.0 * value, 100.0 * low, 100.0 * high)
    }

    /// `0.731 (0.700–0.762)`.
    pub(super) fn number(&self) -> String {
        let Self { value, low, high } = self;
        format!("{value:.3} ({low:.3}–{high:.3})")
    }
}

/// As `show` writes it, or a dash.
pub(super) fn or_dash(figure: Option<&Figure>, show: fn(&Figure) -> String) -> String {
    figure.map_or_else(|| "–".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_with_their_interval() {
        let figure = Figure::from(Interval { estimate: 0.7312, low: 0.7, high: 0.7625 });
        assert_eq!(figure.percent(), "73.1 % (70.0–76.2)");
        assert_eq!(figure.points(), "+73.1 points (70.0 to 76.2)");
        assert_eq!(or_dash(Some(&figure), Figure::number), "0.731 (0.700–0.762)");
        assert_eq!(or_dash(None, Figure::number), "–");
    }
}
