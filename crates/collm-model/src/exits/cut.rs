//! For which model, and for which cut of it, exits were fitted.

use super::{EXITS_VERSION, ExitsFault, keys};
use crate::digest::Digest;
use crate::gguf::{Array, Gguf, GgufWriter, TensorType, Value};
use crate::part::{first_bad_layer, layer_array};

/// Layers that any model may have, checked before the model is known.
const LAYERS_MAX: u32 = 512;

/// For what exits were fitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedCut {
    /// Digest of the model's file.
    pub source_sha256: Digest,
    /// Layers `[0, upload_at)` run before exit 1.
    pub upload_at: u32,
    /// Layers of the model that run between the exits, in this order; each once.
    pub tail: Vec<u32>,
    /// Whether the edge may stop at exit 1.
    pub exit1: bool,
    /// Type that the tail's matrices are stored in. `None`: as in the source.
    pub tail_type: Option<TensorType>,
}

impl FittedCut {
    pub(super) fn read(gguf: &Gguf) -> Result<Self, ExitsFault> {
        if number(gguf, keys::VERSION) != Some(EXITS_VERSION) {
            return Err(ExitsFault::Version);
        }
        let missing = |key: &str| ExitsFault::Key(key.to_owned());
        let digest = gguf.value(keys::SOURCE_SHA256).and_then(|value| value.as_str()?.parse().ok());
        let tail = gguf.value(keys::TAIL).and_then(|value| layer_array(&value));
        let upload_at = number(gguf, keys::UPLOAD_AT).filter(|layer| (1..LAYERS_MAX).contains(layer));
        let exit1 = gguf.value(keys::EXIT1).and_then(|value| value.as_bool());
        Ok(Self {
            source_sha256: digest.ok_or_else(|| missing(keys::SOURCE_SHA256))?,
            upload_at: upload_at.ok_or_else(|| missing(keys::UPLOAD_AT))?,
            tail: tail.filter(|tail| first_bad_layer(tail, LAYERS_MAX).is_none()).ok_or_else(|| missing(keys::TAIL))?,
            exit1: exit1.ok_or_else(|| missing(keys::EXIT1))?,
            tail_type: tail_type(gguf)?,
        })
    }

    /// Whether a model of so many layers can be cut like this.
    pub(super) fn check(&self, layers: u32) -> Result<(), ExitsFault> {
        if self.upload_at >= layers {
            return Err(ExitsFault::Key(keys::UPLOAD_AT.to_owned()));
        }
        match first_bad_layer(&self.tail, layers) {
            Some(_) => Err(ExitsFault::Key(keys::TAIL.to_owned())),
            None => Ok(()),
        }
    }

    pub(super) fn write(&self, writer: &mut GgufWriter<'_>) {
        writer.set(keys::VERSION, Value::U32(EXITS_VERSION));
        writer.set(keys::SOURCE_SHA256, Value::string(self.source_sha256.to_string()));
        writer.set(keys::UPLOAD_AT, Value::U32(self.upload_at));
        writer.set(keys::TAIL, Value::Array(Array::of_u32(&self.tail)));
        writer.set(keys::EXIT1, Value::Bool(self.exit1));
        if let Some(ty) = self.tail_type {
            writer.set(keys::TAIL_TYPE, Value::string(ty.name()));
        }
    }
}

fn number(gguf: &Gguf, key: &str) -> Option<u32> {
    u32::try_from(gguf.value(key)?.as_u64()?).ok()
}

fn tail_type(gguf: &Gguf) -> Result<Option<TensorType>, ExitsFault> {
    let Some(value) = gguf.value(keys::TAIL_TYPE) else { return Ok(None) };
    let ty = value.as_str().and_then(|text| text.parse::<TensorType>().ok()).filter(|ty| ty.is_weight());
    ty.map(Some).ok_or_else(|| ExitsFault::Key(keys::TAIL_TYPE.to_owned()))
}
