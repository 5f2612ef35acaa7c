//! `collm inspect`: what a model file holds.

use std::collections::BTreeMap;

use collm_model::{Holding, ModelFile, split::format_layer_list};
use serde::Serialize;

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
    exits: Vec<String>,
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
    let description = Description::of(&models::open(&model.path)?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&description)?);
    } else {
        anstream::println!("{}", description.for_people());
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
            exits: exits(holding),
            pair: identity.map(|identity| identity.pair.to_string()),
            source_sha256: identity.map(|identity| identity.source_sha256.to_string()),
            width: h.width,
            vocabulary: h.vocabulary,
            context: h.context_train,
            tensors: tensor_groups(model),
        }
    }

    fn for_people(&self) -> String {
        let optional = |value: &Option<String>| value.clone().unwrap_or_else(|| "–".to_owned());
        let mut rows = vec![
            ("file", format!("{} ({})", self.file, ui::size(self.bytes))),
            ("model", format!("{}, {}", optional(&self.name), self.architecture)),
            ("role", self.role.to_owned()),
            ("layers", format!("{} of {}", self.layers, self.layers_of_model)),
        ];
        if let (Some(upload_at), Some(pair)) = (self.upload_at, &self.pair) {
            rows.push(("upload", format!("after {upload_at} layers, {} floats a position", self.width)));
            rows.push(("pair", format!("{pair}, both parts of a split have the same")));
            rows.push(("source", format!("sha256 {}", optional(&self.source_sha256))));
        }
        if let Some(tail) = &self.tail {
            rows.push(("tail", tail.clone()));
            rows.push(("exits", self.exits.join("; ")));
        }
        rows.push(("vocabulary", format!("{} tokens, context {}", self.vocabulary, self.context)));
        let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]);
        let tensors = self
            .tensors
            .iter()
            .map(|group| vec![group.r#type.to_owned(), group.count.to_string(), ui::size(group.bytes)]);
        format!("{}\n\n{}", table::text(&[], rows), table::numbers(&["tensors", "count", "size"], tensors))
    }
}

fn role(holding: &Holding) -> &'static str {
    match holding {
        Holding::Whole => "whole",
        Holding::Edge(_) => "edge",
        Holding::Cloud(_) => "cloud",
    }
}

fn exits(holding: &Holding) -> Vec<String> {
    let Holding::Edge(part) = holding else { return Vec::new() };
    let head = |number| {
        if part.trained_exits.iter().any(|exit| exit.number() == number) { "trained head" } else { "the model's head" }
    };
    let exit1 = if part.exit1 { format!("exit 1 with {}", head(1)) } else { "exit 1 off".to_owned() };
    vec![exit1, format!("exit 2 with {}", head(2))]
}

fn tensor_groups(model: &ModelFile) -> Vec<TensorGroup> {
    let mut groups: BTreeMap<&'static str, (usize, u64)> = BTreeMap::new();
    for info in model.gguf().tensors() {
        let bytes = model.tensor(&info.name).map_or(0, |tensor| tensor.data.len() as u64);
        let group = groups.entry(info.ty.name()).or_default();
        *group = (group.0 + 1, group.1 + bytes);
    }
    groups.into_iter().map(|(r#type, (count, bytes))| TensorGroup { r#type, count, bytes }).collect()
}
