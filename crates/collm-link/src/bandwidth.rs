//! Bandwidth as people write it: "30mbit", "1gbit", "500kbit", plain bits a second, or "unlimited".

use std::{fmt, num::NonZeroU64, str::FromStr, time::Duration};

/// How many bits a second pass; possibly any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bandwidth(Option<NonZeroU64>);

/// Why a text is not a bandwidth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BandwidthError {
    /// Not a whole number with a known unit.
    #[error("\"{0}\" is not a bandwidth; write bits a second as in 30mbit, 500kbit, 1gbit, 64000, or \"unlimited\"")]
    Syntax(String),
    /// Nothing would ever arrive.
    #[error("a bandwidth of zero delivers nothing; stall the link instead")]
    Zero,
    /// More than a 64-bit count of bits.
    #[error("\"{0}\" is more bits a second than can be counted; write \"unlimited\"")]
    TooLarge(String),
}

impl Bandwidth {
    /// No limit: sending takes no time.
    pub const UNLIMITED: Self = Self(None);

    /// A limit in bits a second; `None` for zero.
    pub fn bits_per_second(bits: u64) -> Option<Self> {
        NonZeroU64::new(bits).map(|bits| Self(Some(bits)))
    }

    /// How long the link is busy sending `bytes`.
    pub fn time_to_send(self, bytes: usize) -> Duration {
        let Some(bits_per_second) = self.0 else {
            return Duration::ZERO;
        };
        let nanoseconds = bytes as u128 * 8 * 1_000_000_000 / u128::from(bits_per_second.get());
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }

    /// Bytes that pass within `span`; `None` without a limit.
    pub fn bytes_within(self, span: Duration) -> Option<usize> {
        let bits_per_second = u128::from(self.0?.get());
        let bytes = bits_per_second.saturating_mul(span.as_nanos()) / 8 / 1_000_000_000;
        Some(usize::try_from(bytes).unwrap_or(usize::MAX))
    }
}

const UNITS: [(&str, u64); 4] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

impl FromStr for Bandwidth {
    type Err = BandwidthError;

    fn from_str(text: &str) -> Result<Self, BandwidthError> {
        let lower = text.trim().to_ascii_lowercase();
        if lower == "unlimited" {
            return Ok(Self::UNLIMITED);
        }
        let (digits, unit) = UNITS
            .iter()
            .find_map(|(name, unit)| Some((lower.strip_suffix(name)?.trim_end(), *unit)))
            .unwrap_or((&lower, 1));
        if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(BandwidthError::Syntax(text.to_owned()));
        }
        let bits = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(unit));
        let bits = bits.ok_or_else(|| BandwidthError::TooLarge(text.to_owned()))?;
        Self::bits_per_second(bits).ok_or(BandwidthError::Zero)
    }
}

/// In the largest unit that needs no fraction; parses back to the same value.
impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(bits) = self.0 else {
            return f.write_str("unlimited");
        };
        let (name, unit) =
            UNITS.into_iter().find(|(_, unit)| bits.get() % unit == 0).expect("every number is a multiple of one bit");
        write!(f, "{}{name}", bits.get() / unit)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let cases = [
            ("30mbit", 30_000_000),
            ("1gbit", 1_000_000_000),
            ("500kbit", 500_000),
            ("64000", 64_000),
            ("8bit", 8),
            (" 30 Mbit ", 30_000_000),
        ];
        for (text, bits) in cases {
            assert_eq!(text.parse().ok(), Bandwidth::bits_per_second(bits), "{text}");
        }
        assert_eq!("unlimited".parse(), Ok(Bandwidth::UNLIMITED));
    }

    #[test]
    fn says_what_is_wrong() {
        for text in ["", "mbit", "-3mbit", "3.5mbit", "30mb", "+3", "fast", "３mbit"] {
            assert_eq!(text.parse::<Bandwidth>(), Err(BandwidthError::Syntax(text.into())));
        }
        assert_eq!("0kbit".parse::<Bandwidth>(), Err(BandwidthError::Zero));
        for text in ["18446744074gbit", "99999999999999999999"] {
            assert_eq!(text.parse::<Bandwidth>(), Err(BandwidthError::TooLarge(text.into())));
        }
    }

    #[test]
    fn sending_takes_bits_over_rate() {
        let mbit: Bandwidth = "8mbit".parse().expect("a bandwidth");
        assert_eq!(mbit.time_to_send(1_000), Duration::from_millis(1));
        assert_eq!(mbit.bytes_within(Duration::from_millis(3)), Some(3_000));
        assert_eq!(Bandwidth::UNLIMITED.time_to_send(usize::MAX), Duration::ZERO);
        assert_eq!(Bandwidth::UNLIMITED.bytes_within(Duration::MAX), None);
        let slowest = Bandwidth::bits_per_second(1).expect("not zero");
        assert_eq!(slowest.time_to_send(usize::MAX), Duration::from_nanos(u64::MAX));
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(bits in 1u64..) {
            let bandwidth = Bandwidth::bits_per_second(bits).expect("not zero");
            prop_assert_eq!(bandwidth.to_string().parse(), Ok(bandwidth));
        }
    }
}
