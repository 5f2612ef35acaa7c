//! What guesses were worth: intervals, bounds, calibration and overlap of texts, as pure functions of numbers and words.
//!
//! Tokens of one answer are not independent: an answer about a list is easy from its first item on. So everything that states
//! how sure a figure is works on whole answers (*clusters*). Deliberately absent: files, clocks, tensors, and where guesses
//! come from.

mod binomial;
mod bootstrap;
mod calibration;
mod crossing;
mod logistic;
mod overlap;
mod quantile;
mod risk;
mod threshold;

pub use self::{
    binomial::{clustered_upper_bound, upper_bound},
    bootstrap::{Bootstrap, Interval},
    calibration::{Bin, expected_calibration_error, reliability},
    crossing::crossings,
    logistic::Logistic,
    overlap::{exact_match, rouge_l},
    quantile::{Quartiles, median, quantile},
    risk::{RiskCoverage, RiskPoint},
    threshold::{Selection, Target, TargetError, Unreachable, select_threshold},
};

/// What an exit said about one position, and whether the whole model says the same.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guess {
    /// In `[0, 1]`, finite.
    pub confidence: f32,
    /// Whether the guess is the whole model's token.
    pub right: bool,
}
