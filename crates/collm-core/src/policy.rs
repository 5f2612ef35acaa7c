//! What to do with what an exit saw. Closed enums with pure functions, so that product, calibration and replay share them.

use std::time::Duration;

use crate::sampling::Choice;

/// How an answer is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// The device runs the whole model; there is no cloud.
    Whole,
    /// The cloud runs the whole model; the device sends the prompt and shows the tokens.
    Cloud,
    /// The device runs `[0, e1)` and asks for every token, re-sending all states in f32 each time: no exits, no context
    /// manager, no parallel upload. The paper's baseline, never a good choice.
    Naive,
    /// The edge alone: nothing is uploaded, the last exit always answers.
    Standalone,
    /// The edge where it is sure, the cloud where it is not.
    Collaborative,
    /// The whole model's tokens, all of them: the edge guesses ahead, the cloud checks every guess.
    Exact,
    /// Collaborative where the link makes that worthwhile, standalone where it does not: decided when a request comes in, and again
    /// while it is answered.
    Auto,
}

impl Mode {
    /// Every mode, in the order of the comparison table.
    pub const ALL: [Self; 7] =
        [Self::Whole, Self::Cloud, Self::Naive, Self::Standalone, Self::Collaborative, Self::Exact, Self::Auto];

    /// The word people type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Cloud => "cloud",
            Self::Naive => "naive",
            Self::Standalone => "standalone",
            Self::Collaborative => "collaborative",
            Self::Exact => "exact",
            Self::Auto => "auto",
        }
    }

    /// Whether answers in this mode need the cloud to be what they promise.
    pub fn uses_cloud(self) -> bool {
        matches!(self, Self::Cloud | Self::Naive | Self::Collaborative | Self::Exact)
    }

    /// Whether a threshold decides what is asked, so that a budget can set it.
    pub fn takes_budget(self) -> bool {
        matches!(self, Self::Collaborative | Self::Auto)
    }
}

/// Confidence from which on a guess is emitted, in `[0, 1]`; above 1 every token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Threshold(f32);

impl Threshold {
    /// The paper's setting.
    pub const DEFAULT: Self = Self(0.8);
    /// No guess is ever sure enough.
    pub const NEVER: Self = Self(f32::INFINITY);
    /// Every guess is sure enough.
    pub const ALWAYS: Self = Self(0.0);

    /// `None` for a NaN or a negative number.
    pub fn new(value: f32) -> Option<Self> {
        (value >= 0.0).then_some(Self(value))
    }

    /// The number.
    pub fn value(self) -> f32 {
        self.0
    }

    /// Whether any confidence reaches it.
    pub fn is_reachable(self) -> bool {
        self.0 <= 1.0
    }

    /// The more careful of two.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if self >= other { self } else { other }
    }

    /// Whether a guess of this confidence may be emitted.
    pub fn admits(self, guess: Choice) -> bool {
        guess.confidence >= self.0
    }
}

/// A threshold for each exit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Of exit 1.
    pub exit1: Threshold,
    /// Of exit 2.
    pub exit2: Threshold,
}

impl From<Threshold> for Thresholds {
    /// The same for both.
    fn from(threshold: Threshold) -> Self {
        Self { exit1: threshold, exit2: threshold }
    }
}

/// The part of the vocabulary that a head gives logits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All of it.
    Full,
    /// The exit's shortlist: its cheap check, enough for a guess that somebody surer may replace. All of the vocabulary where the
    /// exit has none.
    Shortlist,
}

impl Scope {
    /// Of the check of an exit whose guess is taken from `threshold` on. A guess that is taken however unsure it is must not be
    /// restricted, or the text would be: `unrestricted` says that it may be, for another reason than the threshold.
    pub fn of_check(threshold: Threshold, unrestricted: bool) -> Self {
        if unrestricted || threshold == Threshold::ALWAYS { Self::Full } else { Self::Shortlist }
    }
}

/// Where an exit's guess goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The guess is the token.
    Emit,
    /// Run the layers up to the next exit.
    Deeper,
    /// Let the cloud decide.
    Ask,
}

/// The rule in force for one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// `None`: exit 1 is off and not even scored.
    pub exit1: Option<Threshold>,
    /// Applied to exit 2 (or to the model's last layer in [`Mode::Whole`]).
    pub exit2: Threshold,
}

impl Policy {
    /// The policy of `mode` at these thresholds, on a part that has exit 1 or not.
    pub fn of(mode: Mode, thresholds: Thresholds, has_exit1: bool) -> Self {
        // An exit that no guess passes is not worth its check.
        let exit1 = || (has_exit1 && thresholds.exit1.is_reachable()).then_some(thresholds.exit1);
        match mode {
            Mode::Whole => Self { exit1: None, exit2: Threshold::ALWAYS },
            Mode::Naive | Mode::Exact => Self { exit1: None, exit2: Threshold::NEVER },
            // In cloud mode the edge only computes when the cloud is lost: then it goes on alone.
            Mode::Cloud | Mode::Standalone => Self { exit1: exit1(), exit2: Threshold::ALWAYS },
            Mode::Collaborative | Mode::Auto => Self { exit1: exit1(), exit2: thresholds.exit2 },
        }
    }

    /// After exit 1.
    pub fn at_exit1(self, guess: Choice) -> Decision {
        match self.exit1 {
            Some(threshold) if threshold.admits(guess) => Decision::Emit,
            _ => Decision::Deeper,
        }
    }

    /// After exit 2.
    pub fn at_exit2(self, guess: Choice) -> Decision {
        if self.exit2.admits(guess) { Decision::Emit } else { Decision::Ask }
    }
}

/// Whether to go on computing while the cloud is asked. Decides about time alone, never about text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunAhead {
    /// Stand still at every ask (the paper).
    Never,
    /// Always go on, up to this many open asks. For tests and ablations.
    Always(u32),
    /// Go on while it is expected to save time, up to this many open asks.
    WhilePaying(u32),
}

impl RunAhead {
    /// What the product uses.
    pub const DEFAULT: Self = Self::WhilePaying(32);

    /// Whether to compute the next position, given how likely each open guess is right.
    ///
    /// If all guesses hold, the work done before the answer comes is time saved; if one does not, the job under way when its answer
    /// comes delays the correction by what is left of it, or by what it takes to interrupt it.
    pub fn pays(self, right: &[f32], ahead: Ahead) -> bool {
        match self {
            Self::Never => false,
            Self::Always(asks_max) => right.len() < asks_max as usize,
            Self::WhilePaying(asks_max) => {
                let survives: f64 = right.iter().map(|&p| f64::from(p)).product();
                let saved = ahead.answer_in.min(ahead.step).as_secs_f64();
                let delay = ahead.delay();
                right.len() < asks_max as usize && survives * saved > (1.0 - survives) * delay
            }
        }
    }
}

/// What running ahead may gain or cost, from what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    /// Until the oldest open ask is answered.
    pub answer_in: Duration,
    /// To compute one position at the edge, all stages.
    pub step: Duration,
    /// The first part of it: after it, the answer may be there.
    pub job: Duration,
    /// Until the engine is free that is interrupted in the midst of it.
    pub interrupted: Duration,
}

impl Ahead {
    /// Seconds by which a wrong guess is corrected later if a job is begun now. When the answer comes is known on average alone, and one
    /// that usually comes after the job may come in the midst of it: so it is taken to come any time until twice as late.
    fn delay(self) -> f64 {
        let [job, latest, interrupted] =
            [self.job, 2 * self.answer_in, self.interrupted].map(|time| time.as_secs_f64());
        let (within, left) =
            if job >= latest { (1.0, job - latest / 2.0) } else { (job / latest, job * job / (2.0 * latest)) };
        left.min(within * interrupted)
    }
}
