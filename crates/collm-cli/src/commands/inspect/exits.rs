//! What was fitted: the exits of an edge part, and an exits file by itself.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use collm_core::policy::Threshold;
use collm_model::{
    ExitInfo, ExitNumber, ExitsFile, ModelFile,
    exits::Promise,
    gguf::{Gguf, TensorType},
    split::format_layer_list,
};
use serde::Serialize;

use super::{TensorGroup, for_people, row, tensor_groups};
use crate::ui;

/// An exit, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct ExitDescription {
    exit: u32,
    /// Whether the edge may stop there.
    on: bool,
    /// Whether it has a norm, map or MLP of its own.
    fitted_head: bool,
    confidence: &'static str,
    gate: bool,
    /// Tokens that its cheap check scores; none: all.
    shortlist: Option<u32>,
    threshold: Option<f32>,
    /// What the threshold promises.
    promise: BTreeMap<String, f64>,
}

/// An exits file, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct ExitsDescription {
    file: String,
    bytes: u64,
    role: &'static str,
    source_sha256: String,
    upload_at: u32,
    /// The edge's layers after the upload, in the order they run.
    tail: String,
    /// Type that the tail's matrices are stored in; none: as in the model.
    tail_type: Option<&'static str>,
    /// Matrices of the tail that are changed.
    deltas: usize,
    exits: Vec<ExitDescription>,
    tensors: Vec<TensorGroup>,
}

/// The exits file behind an argument, if it is one.
pub(super) fn open(path: &Path) -> anyhow::Result<Option<ExitsFile>> {
    let gguf = Gguf::open(path)?;
    if !ExitsFile::is_claimed_by(&gguf) {
        return Ok(None);
    }
    ExitsFile::open(path).map(Some).context("the fitted exits are unusable")
}

/// The exits of an edge part.
pub(super) fn of_part(model: &ModelFile, exit1: bool) -> Vec<ExitDescription> {
    let describe = |exit: ExitNumber| {
        let fitted_head = has_head(|name| model.tensor(name).is_some(), exit);
        ExitDescription::of(exit, exit1, fitted_head, model.exit(exit))
    };
    ExitNumber::ALL.into_iter().map(describe).collect()
}

fn has_head(holds: impl Fn(&str) -> bool, exit: ExitNumber) -> bool {
    ["norm.weight", "map.weight", "mlp.up.weight"].iter().any(|suffix| holds(&exit.tensor(suffix)))
}

impl ExitDescription {
    fn of(exit: ExitNumber, exit1: bool, fitted_head: bool, info: Option<&ExitInfo>) -> Self {
        let info = info.cloned().unwrap_or_default();
        Self {
            exit: exit.number(),
            on: exit1 || exit == ExitNumber::Two,
            fitted_head,
            confidence: info.measure.name(),
            gate: info.gate.is_some(),
            shortlist: info.shortlist,
            threshold: info.threshold.map(Threshold::value),
            promise: info.promise.0,
        }
    }

    /// `exit 2` and what there is to say about it.
    pub(super) fn row(&self) -> (String, String) {
        let mut said = vec![if self.fitted_head { "fitted head" } else { "the model's head" }.to_owned()];
        if !self.on {
            said.insert(0, "off".to_owned());
        }
        said.extend(self.shortlist.map(|tokens| format!("shortlists of {tokens} tokens")));
        said.push(format!("confidence by {}", self.confidence));
        said.extend(self.threshold.map(|threshold| format!("threshold {threshold:.3}{}", self.promised())));
        (format!("exit {}", self.exit), said.join(", "))
    }

    /// ` for 97 % agreement at 62 % coverage, measured on 12000 positions`, as far as it is known.
    fn promised(&self) -> String {
        let promise = Promise(self.promise.clone());
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let agreement = promise.target().map(|target| format!(" for {} agreement", percent(target)));
        let coverage = promise.coverage().map(|coverage| format!(" at {} coverage", percent(coverage)));
        let positions = promise.positions().map(|positions| format!(", measured on {positions} positions"));
        [agreement, coverage, positions].into_iter().flatten().collect()
    }
}

impl ExitsDescription {
    pub(super) fn of(exits: &ExitsFile) -> Self {
        let (cut, gguf) = (exits.cut(), exits.gguf());
        let describe = |exit: ExitNumber| {
            let fitted_head = has_head(|name| gguf.tensor(name).is_some(), exit);
            ExitDescription::of(exit, cut.exit1, fitted_head, exits.exit(exit))
        };
        let is_delta = |name: &str| name.starts_with("tail.") && name.ends_with(".a");
        Self {
            file: exits.path().display().to_string(),
            bytes: gguf.bytes().len() as u64,
            role: "exits",
            source_sha256: cut.source_sha256.to_string(),
            upload_at: cut.upload_at,
            tail: format_layer_list(&cut.tail),
            tail_type: cut.tail_type.map(TensorType::name),
            deltas: gguf.tensors().iter().filter(|info| is_delta(&info.name)).count(),
            exits: ExitNumber::ALL.into_iter().map(describe).collect(),
            tensors: tensor_groups(gguf),
        }
    }

    pub(super) fn for_people(&self) -> String {
        let changed = match self.deltas {
            0 => String::new(),
            deltas => format!(", {deltas} of its matrices changed"),
        };
        let ty = self.tail_type.map_or_else(|| "stored as in the model".to_owned(), |ty| format!("stored as {ty}"));
        let mut rows = vec![
            row("file", format!("{} ({})", self.file, ui::size(self.bytes))),
            row("role", self.role.to_owned()),
            row("source", format!("sha256 {}", self.source_sha256)),
            row("upload", format!("after {} layers", self.upload_at)),
            row("tail", format!("{}, {ty}{changed}", self.tail)),
        ];
        rows.extend(self.exits.iter().map(ExitDescription::row));
        for_people(rows, &self.tensors)
    }
}
