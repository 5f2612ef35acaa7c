//! What a file holds: a whole model, an edge part or a cloud part, told apart by namespaced keys.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::digest::{Digest, parse_hex};
use crate::exits::exit;
use crate::gguf::{Gguf, Value};
use crate::hyperparameters::Hyperparameters;
use crate::layout::LayerName;

/// Format of parts that this version writes and reads.
pub(crate) const PART_VERSION: u32 = 2;

/// Metadata keys of a part.
pub(crate) mod keys {
    pub(crate) const VERSION: &str = "collm.part.version";
    pub(crate) const ROLE: &str = "collm.part.role";
    pub(crate) const UPLOAD_AT: &str = "collm.part.upload_at";
    pub(crate) const LAYERS: &str = "collm.part.layers";
    pub(crate) const TAIL: &str = "collm.part.tail";
    pub(crate) const EXIT1: &str = "collm.part.exit1";
    pub(crate) const PAIR: &str = "collm.part.pair";
    pub(crate) const SOURCE_SHA256: &str = "collm.part.source_sha256";
    pub(crate) const SOURCE_NAME: &str = "collm.part.source_name";
    pub(crate) const EXITS_SHA256: &str = "collm.part.exits_sha256";
}

/// Says that an edge part and a cloud part fit: same source, same place of upload, same types of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PairId(pub [u8; 16]);

impl fmt::Display for PairId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PairId {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        parse_hex(text).map(Self).ok_or(PartError::Key { key: keys::PAIR })
    }
}

/// One of the two places where an edge may stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ExitNumber {
    /// After the layers that are uploaded.
    One,
    /// After the tail.
    Two,
}

impl ExitNumber {
    /// Both, in order.
    pub const ALL: [Self; 2] = [Self::One, Self::Two];

    /// 0 or 1, to look something up by exit.
    pub(crate) fn index(self) -> usize {
        self.number() as usize - 1
    }

    /// 1 or 2, as in names of tensors and keys.
    pub fn number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The name of a tensor of this exit, `suffix` being `map.weight` for example.
    pub fn tensor(self, suffix: &str) -> String {
        format!("exit.{}.{suffix}", self.number())
    }

    /// A metadata key about this exit, `suffix` being `threshold` for example.
    pub fn key(self, suffix: &str) -> String {
        format!("collm.exit.{}.{suffix}", self.number())
    }
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holding {
    /// All layers, embedding and head.
    Whole,
    /// What the edge runs.
    Edge(EdgePart),
    /// What the cloud runs.
    Cloud(CloudPart),
}

/// What both parts of a pair agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartIdentity {
    /// Layers `[0, upload_at)` run on the edge, `[upload_at, layers)` on the cloud.
    pub upload_at: u32,
    /// Layers of the source.
    pub layers: u32,
    /// Same in both parts of a pair.
    pub pair: PairId,
    /// Digest of the file that was split.
    pub source_sha256: Digest,
    /// Name of the file that was split, for people.
    pub source_name: String,
}

/// What an edge part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgePart {
    /// Shared with the cloud part.
    pub identity: PartIdentity,
    /// Layers of the source that form the tail, in the order they run.
    pub tail: Vec<u32>,
    /// Whether the edge may stop before the tail.
    pub exit1: bool,
    /// Exits with a norm, map or MLP of their own; others use the model's final norm and LM head.
    pub trained_exits: Vec<ExitNumber>,
    /// Digest of the exits file that was merged into the part.
    pub exits_sha256: Option<Digest>,
}

/// What a cloud part holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudPart {
    /// Shared with the edge part.
    pub identity: PartIdentity,
}

/// Why the keys of a part make no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Written by a later version.
    #[error("the part has format version {0}, this program reads version {PART_VERSION}; split the model again")]
    Version(u64),
    /// A key is missing or unreadable.
    #[error("the key {key:?} is missing or unreadable; split the model again")]
    Key {
        /// The key.
        key: &'static str,
    },
    /// Keys contradict one another or the model.
    #[error("the key {key:?} says {value}, which cannot be; split the model again")]
    Contradiction {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

impl Holding {
    /// The identity, if this is a part.
    pub fn identity(&self) -> Option<&PartIdentity> {
        match self {
            Self::Whole => None,
            Self::Edge(part) => Some(&part.identity),
            Self::Cloud(part) => Some(&part.identity),
        }
    }

    /// The layers held under their own index.
    pub fn blocks(&self, hyperparameters: &Hyperparameters) -> Range<u32> {
        match self {
            Self::Whole => 0..hyperparameters.layers,
            Self::Edge(part) => 0..part.identity.upload_at,
            Self::Cloud(part) => part.identity.upload_at..hyperparameters.layers,
        }
    }

    /// The tail, source layers in the order they run; empty for whole models and cloud parts.
    pub fn tail(&self) -> &[u32] {
        match self {
            Self::Edge(part) => &part.tail,
            Self::Whole | Self::Cloud(_) => &[],
        }
    }

    /// Every layer held, as it is named in the file.
    pub fn layers(&self, hyperparameters: &Hyperparameters) -> impl Iterator<Item = LayerName> {
        let tail = 0..self.tail().len() as u32;
        self.blocks(hyperparameters).map(LayerName::Block).chain(tail.map(LayerName::Tail))
    }

    /// Whether the token embedding is needed to read tokens (a cloud part reads hidden states).
    pub(crate) fn reads_tokens(&self) -> bool {
        !matches!(self, Self::Cloud(_))
    }

    pub(crate) fn read(gguf: &Gguf, hyperparameters: &Hyperparameters) -> Result<Self, PartError> {
        let Some(version) = gguf.value(keys::VERSION) else { return refuse_stray_keys(gguf) };
        match version.as_u64() {
            Some(version) if version == u64::from(PART_VERSION) => (),
            Some(other) => return Err(PartError::Version(other)),
            None => return Err(PartError::Key { key: keys::VERSION }),
        }
        let identity = PartIdentity::read(gguf, hyperparameters)?;
        match string(gguf, keys::ROLE)?.as_str() {
            "edge" => EdgePart::read(gguf, identity).map(Self::Edge),
            "cloud" => Ok(Self::Cloud(CloudPart { identity })),
            other => Err(PartError::Contradiction { key: keys::ROLE, value: other.to_owned() }),
        }
    }
}

/// A part that lost its version is no whole model.
fn refuse_stray_keys(gguf: &Gguf) -> Result<Holding, PartError> {
    if gguf.metadata().any(|(key, _)| key.starts_with("collm.part.")) {
        return Err(PartError::Key { key: keys::VERSION });
    }
    Ok(Holding::Whole)
}

impl PartIdentity {
    fn read(gguf: &Gguf, hyperparameters: &Hyperparameters) -> Result<Self, PartError> {
        let layers = number(gguf, keys::LAYERS)?;
        if layers != hyperparameters.layers {
            return Err(PartError::Contradiction { key: keys::LAYERS, value: layers.to_string() });
        }
        let upload_at = number(gguf, keys::UPLOAD_AT)?;
        if !(1..layers).contains(&upload_at) {
            return Err(PartError::Contradiction { key: keys::UPLOAD_AT, value: upload_at.to_string() });
        }
        let digest = string(gguf, keys::SOURCE_SHA256)?;
        Ok(Self {
            upload_at,
            layers,
            pair: string(gguf, keys::PAIR)?.parse()?,
            source_sha256: digest.parse().map_err(|_| PartError::Key { key: keys::SOURCE_SHA256 })?,
            source_name: string(gguf, keys::SOURCE_NAME)?,
        })
    }
}

impl EdgePart {
    fn read(gguf: &Gguf, identity: PartIdentity) -> Result<Self, PartError> {
        let tail = tail(gguf)?;
        check_tail(&tail, identity.layers)?;
        let exit1 = gguf.value(keys::EXIT1).and_then(|value| value.as_bool());
        let exit1 = exit1.ok_or(PartError::Key { key: keys::EXIT1 })?;
        let trained_exits = ExitNumber::ALL.into_iter().filter(|&number| exit::has_head(gguf, number)).collect();
        Ok(Self { identity, tail, exit1, trained_exits, exits_sha256: exits_digest(gguf)? })
    }
}

fn tail(gguf: &Gguf) -> Result<Vec<u32>, PartError> {
    gguf.value(keys::TAIL).and_then(|value| layer_array(&value)).ok_or(PartError::Key { key: keys::TAIL })
}

fn exits_digest(gguf: &Gguf) -> Result<Option<Digest>, PartError> {
    let Some(value) = gguf.value(keys::EXITS_SHA256) else { return Ok(None) };
    let digest = value.as_str().and_then(|text| text.parse().ok());
    digest.map(Some).ok_or(PartError::Key { key: keys::EXITS_SHA256 })
}

/// An array of layers, whatever the width of its integers.
pub(crate) fn layer_array(value: &Value<'_>) -> Option<Vec<u32>> {
    let Value::Array(array) = value else { return None };
    let layer = |value: Value<'_>| value.as_u64().and_then(|layer| u32::try_from(layer).ok());
    array.iter().map(layer).collect()
}

/// Every layer exists and appears once.
fn check_tail(tail: &[u32], layers: u32) -> Result<(), PartError> {
    match first_bad_layer(tail, layers) {
        Some(layer) => Err(PartError::Contradiction { key: keys::TAIL, value: layer.to_string() }),
        None => Ok(()),
    }
}

/// The first entry of a tail that no layer has as its index, or that is there twice.
pub(crate) fn first_bad_layer(tail: &[u32], layers: u32) -> Option<u32> {
    let mut seen = vec![false; layers as usize];
    tail.iter().copied().find(|&layer| match seen.get_mut(layer as usize) {
        Some(seen) => std::mem::replace(seen, true),
        None => true,
    })
}

fn number(gguf: &Gguf, key: &'static str) -> Result<u32, PartError> {
    let value = gguf.value(key).and_then(|value| value.as_u64());
    value.and_then(|value| u32::try_from(value).ok()).ok_or(PartError::Key { key })
}

fn string(gguf: &Gguf, key: &'static str) -> Result<String, PartError> {
    let value = gguf.value(key);
    let text = value.as_ref().and_then(|value| value.as_str());
    text.map(str::to_owned).ok_or(PartError::Key { key })
}
