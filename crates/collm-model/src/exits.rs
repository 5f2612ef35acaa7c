//! Fitted exits: a small GGUF file of their own that is merged with a model into the edge part when the model is split.
//!
//! Keys: `collm.exits.version` (3), `.source_sha256`, `.upload_at`, `.tail` (source layers in the order they run), `.exit1`
//! and, if the tail is to be stored in another type than the source, `.tail_type`. For each exit `n` in {1, 2}:
//! `collm.exit.n.confidence`, `.threshold`, `.shortlist.length`, and under `.calibration.` what the threshold promises.
//!
//! Tensors, all optional, row length first. What an exit consists of (module `exit`, also in edge parts):
//! `exit.n.norm.weight` `[width]`, `exit.n.map.weight` `[width, width]`, `exit.n.map.bias` `[width]`, `exit.n.mlp.up.weight`
//! `[width, hidden]` and `exit.n.mlp.down.weight` `[hidden, width]`, `exit.n.shortlist.*`, `exit.n.gate.*`. What changes the
//! tail, `i` being the index in it: `tail.i.{suffix}.a` `[in, rank]` and `tail.i.{suffix}.b` `[rank, out]`, a low-rank delta
//! `W[o] += sum_r b[o][r] * a[r]`; `tail.i.{suffix}` in place of a norm's gain or a bias.
//!
//! Deliberately absent: fitting and computing; even what a gate consists of is `collm-core`'s. Merging a delta is in [`split`](crate::split).

mod cut;
mod draft;
mod error;
pub(crate) mod exit;
mod file;
mod fitted;
mod gate;
mod promise;
pub(crate) mod shortlist;

pub use cut::FittedCut;
pub use draft::ExitsDraft;
pub use error::{ExitsError, ExitsFault};
pub use exit::ExitInfo;
pub use file::{Delta, ExitsFile};
pub use promise::Promise;

/// Metadata keys of an exits file.
mod keys {
    pub(super) const VERSION: &str = "collm.exits.version";
    pub(super) const SOURCE_SHA256: &str = "collm.exits.source_sha256";
    pub(super) const UPLOAD_AT: &str = "collm.exits.upload_at";
    pub(super) const TAIL: &str = "collm.exits.tail";
    pub(super) const EXIT1: &str = "collm.exits.exit1";
    pub(super) const TAIL_TYPE: &str = "collm.exits.tail_type";
}

/// Format that this version writes and reads.
const EXITS_VERSION: u32 = 3;
