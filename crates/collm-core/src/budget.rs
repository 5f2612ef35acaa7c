//! Targets instead of a threshold: what an answer may cost. The edge's controller finds the threshold that keeps them.

use std::{fmt, str::FromStr, time::Duration};

use crate::policy::Threshold;

/// What an answer may cost, and how unsure the edge may become for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// What is to be kept.
    pub target: Target,
    /// The threshold in force never falls below this, whether the target can be kept or not.
    pub threshold_min: Threshold,
}

impl From<Target> for Budget {
    /// With any threshold.
    fn from(target: Target) -> Self {
        Self { target, threshold_min: Threshold::ALWAYS }
    }
}

/// What is to be kept. As much is asked of the cloud as fits in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Time per output token (TPOT) after the first, on average over the answer: at most this.
    TimePerToken(Duration),
    /// Share of the answer's tokens that the cloud is asked about: at most this.
    CloudShare(Share),
}

/// A part of the whole, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// `None` for what is not from 0 to 1.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The number.
    pub fn value(self) -> f64 {
        self.0
    }
}

/// Why a text is no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Neither of the two.
    #[error(
        "write a budget as tpot=60ms (time per token) or cloud=20% (share of the tokens that the cloud is asked about)"
    )]
    Unknown,
    /// Not a time that a token may take.
    #[error("the time per token must be above 0 and at most an hour, as in tpot=60ms or tpot=0.5s")]
    Time,
    /// Not a share.
    #[error("the cloud's share must be from 0% to 100%, as in cloud=20%")]
    Share,
}

impl Target {
    /// Of this many milliseconds a token.
    ///
    /// # Errors
    /// When no token could take that long.
    pub fn milliseconds_per_token(milliseconds: f64) -> Result<Self, TargetError> {
        const HOUR_MS: f64 = 3_600_000.0;
        let possible = milliseconds > 0.0 && milliseconds <= HOUR_MS;
        possible.then(|| Self::TimePerToken(Duration::from_secs_f64(milliseconds / 1e3))).ok_or(TargetError::Time)
    }

    /// Of this share of the tokens, from 0 to 1.
    ///
    /// # Errors
    /// When it is no share.
    pub fn cloud_share(share: f64) -> Result<Self, TargetError> {
        Share::new(share).map(Self::CloudShare).ok_or(TargetError::Share)
    }
}

impl FromStr for Target {
    type Err = TargetError;

    /// `tpot=60ms`, `tpot=0.5s` or `cloud=20%`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        match text.split_once('=') {
            Some(("tpot", time)) => {
                let (number, scale) = match (time.strip_suffix("ms"), time.strip_suffix('s')) {
                    (Some(number), _) => (number, 1.0),
                    (None, Some(number)) => (number, 1e3),
                    (None, None) => return Err(TargetError::Time),
                };
                let number: f64 = number.trim().parse().map_err(|_| TargetError::Time)?;
                Self::milliseconds_per_token(number * scale)
            }
            Some(("cloud", share)) => {
                let percent = share.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
                Self::cloud_share(percent.ok_or(TargetError::Share)? / 100.0)
            }
            _ => Err(TargetError::Unknown),
        }
    }
}

impl fmt::Display for Target {
    /// As it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Rounded to what a clock can tell apart.
            Self::TimePerToken(time) => write!(f, "tpot={}ms", (time.as_secs_f64() * 1e9).round() / 1e6),
            Self::CloudShare(Share(share)) => write!(f, "cloud={}%", (share * 1e6).round() / 1e4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_read_as_they_are_written() {
        for text in ["tpot=60ms", "tpot=0.5ms", "cloud=20%", "cloud=0%", "cloud=12.5%", "cloud=100%"] {
            assert_eq!(text.parse::<Target>().map(|target| target.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("tpot=0.06s".parse(), Target::milliseconds_per_token(60.0));
        assert_eq!("cloud=20%".parse(), Target::cloud_share(0.2));
    }

    #[test]
    fn what_is_no_target_is_refused_with_the_way_to_write_one() {
        for (text, error) in [
            ("60ms", TargetError::Unknown),
            ("speed=9", TargetError::Unknown),
            ("tpot=60", TargetError::Time),
            ("tpot=-1ms", TargetError::Time),
            ("tpot=0ms", TargetError::Time),
            ("tpot=NaNms", TargetError::Time),
            ("tpot=infs", TargetError::Time),
            ("cloud=0.2", TargetError::Share),
            ("cloud=120%", TargetError::Share),
            ("cloud=NaN%", TargetError::Share),
        ] {
            assert_eq!(text.parse::<Target>(), Err(error), "{text}");
            assert!(error.to_string().contains('='), "{error}");
        }
    }
}
