//! Reading and checking single metadata keys of one architecture.

use super::{HyperparameterError, Result};
use crate::gguf::{Gguf, Value};

/// The keys of one architecture.
pub(super) struct Keys<'a> {
    pub(super) gguf: &'a Gguf,
    pub(super) prefix: &'static str,
}

impl Keys<'_> {
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    pub(super) fn value(&self, name: &str) -> Option<Value<'_>> {
        self.gguf.value(&self.key(name))
    }

    pub(super) fn impossible(&self, name: &str, value: &dyn ToString) -> HyperparameterError {
        HyperparameterError::Impossible { key: self.key(name), value: value.to_string() }
    }

    pub(super) fn unsupported(&self, name: &str, value: &dyn ToString) -> HyperparameterError {
        HyperparameterError::Unsupported { key: self.key(name), value: value.to_string() }
    }

    /// An integer in `1..=max`, if the key is there.
    pub(super) fn optional_count(&self, name: &str, max: u64) -> Result<Option<u32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match self.uniform(name, &value)? {
            count if (1..=max).contains(&count) => Ok(Some(count as u32)),
            count => Err(self.impossible(name, &count)),
        }
    }

    pub(super) fn count(&self, name: &str, max: u64) -> Result<u32> {
        self.optional_count(name, max)?.ok_or_else(|| HyperparameterError::Missing(self.key(name)))
    }

    /// An integer, or an array of equal ones, one a layer.
    pub(super) fn uniform(&self, name: &str, value: &Value<'_>) -> Result<u64> {
        let missing = || HyperparameterError::Missing(self.key(name));
        let Value::Array(array) = value else { return value.as_u64().ok_or_else(missing) };
        let first = array.element_at(0).and_then(|value| value.as_u64()).ok_or_else(missing)?;
        if array.iter().any(|value| value.as_u64() != Some(first)) {
            return Err(self.unsupported(name, &"different from layer to layer"));
        }
        Ok(first)
    }

    /// A finite number, if the key is there.
    pub(super) fn optional_number(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.value(name) else { return Ok(None) };
        match value.as_f32() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            Some(number) => Err(self.impossible(name, &number)),
            None => Err(HyperparameterError::Missing(self.key(name))),
        }
    }

    pub(super) fn optional_positive(&self, name: &str) -> Result<Option<f32>> {
        match self.optional_number(name)? {
            Some(number) if number <= 0.0 => Err(self.impossible(name, &number)),
            other => Ok(other),
        }
    }

    pub(super) fn positive(&self, name: &str) -> Result<f32> {
        self.optional_positive(name)?.ok_or_else(|| HyperparameterError::Missing(self.key(name)))
    }

    /// Whatever changes the computation in a way the engine does not know.
    pub(super) fn refuse_unsupported(&self) -> Result<()> {
        let experts = self.value("expert_count").and_then(|value| value.as_u64()).unwrap_or(0);
        if experts > 0 {
            return Err(HyperparameterError::Experts { architecture: self.prefix.to_owned(), experts });
        }
        if self.value("attention.causal").and_then(|value| value.as_bool()) == Some(false) {
            return Err(self.unsupported("attention.causal", &false));
        }
        for name in ["final_logit_softcapping", "attn_logit_softcapping"] {
            if let Some(cap) = self.optional_number(name)?.filter(|&cap| cap != 0.0) {
                return Err(self.unsupported(name, &cap));
            }
        }
        match self.value("nextn_predict_layers").and_then(|value| value.as_u64()) {
            Some(layers) if layers > 0 => Err(self.unsupported("nextn_predict_layers", &layers)),
            _ => Ok(()),
        }
    }
}
