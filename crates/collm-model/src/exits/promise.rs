//! What a calibrated threshold promises: free numbers that travel with it, for people and reports.

use std::collections::BTreeMap;

use super::ExitsFault;
use crate::gguf::{Gguf, Value};
use crate::part::ExitNumber;

/// Numbers that one exit may carry. Far above what any calibration has to say.
const NUMBERS_MAX: usize = 64;

/// Numbers by name, as the calibration measured them: `target`, `bound`, `positions`, `coverage` and whatever else.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Promise(pub BTreeMap<String, f64>);

impl Promise {
    /// The agreement that was asked for, as a share.
    pub fn target(&self) -> Option<f64> {
        self.number("target")
    }

    /// The agreement among emitted tokens that was shown, with the confidence that was asked for.
    pub fn bound(&self) -> Option<f64> {
        self.number("bound")
    }

    /// Positions of the text that it was measured on.
    pub fn positions(&self) -> Option<f64> {
        self.number("positions")
    }

    /// The share of positions whose token the exit emits at the threshold.
    pub fn coverage(&self) -> Option<f64> {
        self.number("coverage")
    }

    /// A number by its name.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    pub(super) fn read(gguf: &Gguf, exit: ExitNumber) -> Result<Self, ExitsFault> {
        let prefix = exit.key("calibration.");
        let mut numbers = BTreeMap::new();
        for (key, value) in gguf.metadata() {
            let Some(name) = key.strip_prefix(&prefix) else { continue };
            let number = number(&value).filter(|number| number.is_finite() && numbers.len() < NUMBERS_MAX);
            numbers.insert(name.to_owned(), number.ok_or_else(|| ExitsFault::Key(key.to_owned()))?);
        }
        Ok(Self(numbers))
    }

    /// The keys and values of a file.
    pub(super) fn metadata(&self, exit: ExitNumber) -> impl Iterator<Item = (String, Value<'static>)> {
        self.0.iter().map(move |(name, &number)| (exit.key(&format!("calibration.{name}")), Value::F64(number)))
    }
}

/// Any integer that is not negative, or any real number.
fn number(value: &Value<'_>) -> Option<f64> {
    match *value {
        Value::F64(number) => Some(number),
        Value::F32(number) => Some(number.into()),
        ref integer => integer.as_u64().map(|integer| integer as f64),
    }
}
