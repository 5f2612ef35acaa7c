//! `collm inspect`: what a model file holds, or a file of fitted exits.

mod exits;

use std::collections::BTreeMap;

use collm_model::{Holding, ModelFile, gguf::Gguf, split::format_layer_list};
use serde::Serialize;

use self::exits::{ExitDescription, ExitsDescription};
use crate::{
    args::InspectArgs,
    models,
    ui::{self, progress::ProgressMode, table},
};

/// Everything that is printed.
#[derive(Debug, Serialize)]
struct Description {
    file: String,
    bytes: u64,
    name: Option<String>,
    architecture: &'static str,
    /// whole, edge or cloud.
    role: &'static str,
    layers_of_model: u32,
    /// Layers held under their own index.
    layers: String,
    /// The edge's layers after the upload, in the order they run.
    tail: Option<String>,
    upload_at: Option<u32>,
    exits: Vec<ExitDescription>,
    /// Digest of the exits file that was merged into an edge part.
    exits_sha256: Option<String>,
    pair: Option<String>,
    source_sha256: Option<String>,
    width: u32,
    vocabulary: u32,
    context: u32,
    tensors: Vec<TensorGroup>,
}

/// All tensors of one type.
#[derive(Debug, Serialize)]
struct TensorGroup {
    r#type: &'static str,
    count: usize,
    bytes: u64,
}

pub(super) fn run(args: &InspectArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let model = models::locate(&args.reference, progress)?;
    if let Some(exits) = exits::open(&model.path)? {
        let description = ExitsDescription::of(&exits);
        return print(args.json, &description, ExitsDescription::for_people);
    }
    print(args.json, &Description::of(&models::open(&model.path)?), Description::for_people)
}

fn print<D: Serialize>(json: bool, description: &D, for_people: impl Fn(&D) -> String) -> anyhow::Result<()> {
    if json {
        ui::print::line(serde_json::to_string_pretty(description)?)?;
    } else {
        ui::print::line(for_people(description))?;
    }
    Ok(())
}

impl Description {
    fn of(model: &ModelFile) -> Self {
        let (h, holding) = (model.hyperparameters(), model.holding());
        let identity = holding.identity();
        let held = holding.blocks(h);
        Self {
            file: model.path().display().to_string(),
            bytes: model.gguf().bytes().len() as u64,
            name: model.gguf().value("general.name").and_then(|name| name.as_str().map(str::to_owned)),
            architecture: h.architecture.name(),
            role: role(holding),
            layers_of_model: h.layers,
            layers: format_layer_list(&held.collect::<Vec<_>>()),
            tail: matches!(holding, Holding::Edge(_)).then(|| format_layer_list(holding.tail())),
            upload_at: identity.map(|identity| identity.upload_at),
            exits: exits(model),
            exits_sha256: exits_sha256(holding),
            pair: identity.map(|identity| identity.pair.to_string()),
            source_sha256: identity.map(|identity| identity.source_sha256.to_string()),
            width: h.width,
            vocabulary: h.vocabulary,
            context: h.context_train,
            tensors: tensor_groups(model.gguf()),
        }
    }

    fn for_people(&self) -> String {
        let optional = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        let mut rows = vec![
            row("file", format!("{} ({})", self.file, ui::size(self.bytes))),
            row("model", format!("{}, {}", optional(&self.name), self.architecture)),
            row("role", self.role.to_owned()),
            row("layers", format!("{} of {}", self.layers, self.layers_of_model)),
        ];
        if let (Some(upload_at), Some(pair)) = (self.upload_at, &self.pair) {
            rows.push(row("upload", format!("after {upload_at} layers, {} floats a position", self.width)));
            rows.push(row("pair", format!("{pair}, both parts of a split have the same")));
            rows.push(row("source", format!("sha256 {}", optional(&self.source_sha256))));
        }
        rows.extend(self.tail.clone().map(|tail| row("tail", tail)));
        rows.extend(self.exits.iter().map(ExitDescription::row));
        rows.extend(self.exits_sha256.as_ref().map(|digest| row("exits", format!("sha256 {digest}"))));
        rows.push(row("vocabulary", format!("{} tokens, context {}", self.vocabulary, self.context)));
        for_people(rows, &self.tensors)
    }
}

fn row(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

fn for_people(rows: Vec<(String, String)>, tensors: &[TensorGroup]) -> String {
    let rows = rows.into_iter().map(|(name, value)| vec![name, value]);
    let tensors =
        tensors.iter().map(|group| vec![group.r#type.to_owned(), group.count.to_string(), ui::size(group.bytes)]);
    format!("{}\n\n{}", table::text(&[], rows), table::numbers(&["tensors", "count", "size"], tensors))
}

fn role(holding: &Holding) -> &'static str {
    match holding {
        Holding::Whole => "whole",
        Holding::Edge(_) => "edge",
        Holding::Cloud(_) => "cloud",
    }
}

fn exits(model: &ModelFile) -> Vec<ExitDescription> {
    match model.holding() {
        Holding::Edge(part) => exits::of_part(model, part.exit1),
        Holding::Whole | Holding::Cloud(_) => Vec::new(),
    }
}

fn exits_sha256(holding: &Holding) -> Option<String> {
    let Holding::Edge(part) = holding else { return None };
    part.exits_sha256.map(|digest| digest.to_string())
}

fn tensor_groups(gguf: &Gguf) -> Vec<TensorGroup> {
    let mut groups: BTreeMap<&'static str, (usize, u64)> = BTreeMap::new();
    for info in gguf.tensors() {
        let group = groups.entry(info.ty.name()).or_default();
        *group = (group.0 + 1, group.1 + info.byte_count);
    }
    groups.into_iter().map(|(r#type, (count, bytes))| TensorGroup { r#type, count, bytes }).collect()
}
