//! Models to test on, and a whole model run through an engine.
#![allow(dead_code)] // Every test file uses its own share of this.

use std::path::Path;
use std::sync::Arc;

use collm_engine::{Engine, Head, Input, Position, Row, Scope, Scores, Shape, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions};
use collm_model::fetch::Fetcher;
use collm_model::gguf::TensorType;
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, ModelFile, ModelReference};

/// Small sizes, one thread: tests run beside one another.
pub(crate) fn options() -> LoadOptions {
    LoadOptions { slots: 2, context: 512, batch_rows_max: 128, ..LoadOptions::default() }
}

/// A real model, fetched once and cached.
pub(crate) fn real(name: &str) -> Arc<ModelFile> {
    let reference = ModelReference::parse(name).unwrap();
    let path = Fetcher::from_environment().unwrap().fetch(&reference, &mut |_| ()).unwrap();
    open(&path)
}

/// A small random model in `folder`.
pub(crate) fn synthetic(folder: &Path, model: &SyntheticModel) -> Arc<ModelFile> {
    let path = folder.join(format!("{}-{}-{}.gguf", model.architecture, model.weights, model.seed));
    model.write(&path).unwrap();
    open(&path)
}

pub(crate) fn open(path: &Path) -> Arc<ModelFile> {
    Arc::new(ModelFile::open(path).unwrap())
}

/// Every family, in full precision and quantised, with all optional tensors.
pub(crate) fn synthetic_models() -> Vec<SyntheticModel> {
    let with = |architecture, weights| SyntheticModel {
        weights,
        biases: true,
        rope_factors: architecture == Architecture::Llama,
        ..SyntheticModel::new(architecture)
    };
    Architecture::ALL.into_iter().flat_map(|a| [with(a, TensorType::F32), with(a, TensorType::Q8_0)]).collect()
}

/// Positions `start..start + count` of slot 0.
pub(crate) fn rows(start: usize, count: usize) -> Vec<Row> {
    (start..start + count).map(|position| Row { slot: SlotId(0), position: Position(position as u32) }).collect()
}

/// A prompt without meaning.
pub(crate) fn prompt(shape: &Shape, length: usize) -> Vec<TokenId> {
    (0..length).map(|index| TokenId((index * 7919 + 5) as u32 % shape.vocabulary as u32)).collect()
}

/// A whole model in one or two engines: what reads tokens, and what ends with the final head.
pub(crate) struct Whole {
    lower: GgmlEngine,
    upper: Option<GgmlEngine>,
    length: usize,
}

impl Whole {
    pub(crate) fn of_whole(file: &Arc<ModelFile>, upload_at: u32) -> Self {
        let options = LoadOptions { upload_at: Some(upload_at), ..options() };
        Self { lower: GgmlEngine::load(file, &options).unwrap(), upper: None, length: 0 }
    }

    pub(crate) fn of_parts(edge: &Arc<ModelFile>, cloud: &Arc<ModelFile>) -> Self {
        let load = |file| GgmlEngine::load(file, &options()).unwrap();
        Self { lower: load(edge), upper: Some(load(cloud)), length: 0 }
    }

    pub(crate) fn shape(&self) -> &Shape {
        self.lower.shape()
    }

    /// Appends tokens and returns the logits after the last.
    pub(crate) fn decode(&mut self, tokens: &[TokenId]) -> Vec<f32> {
        let rows = rows(self.length, tokens.len());
        self.length += tokens.len();
        let (mut middle, mut hidden, mut scores) = (Vec::new(), Vec::new(), Scores::default());
        self.lower.run(Stack::Lower, &rows, Input::Tokens(tokens), &mut middle).unwrap();
        let upper = self.upper.as_mut().unwrap_or(&mut self.lower);
        upper.run(Stack::Upper, &rows, Input::Hidden(&middle), &mut hidden).unwrap();
        let last = &hidden[hidden.len() - upper.shape().width..];
        upper.score(Head::Final, Scope::Full, last, &mut scores).unwrap();
        scores.logits
    }

    /// The logits of `count` greedy steps after a prompt.
    pub(crate) fn greedy(&mut self, prompt: &[TokenId], count: usize) -> Vec<Vec<f32>> {
        let mut steps = vec![self.decode(prompt)];
        while steps.len() < count {
            let token = argmax(&steps[steps.len() - 1]);
            steps.push(self.decode(&[token]));
        }
        steps
    }
}

pub(crate) fn argmax(logits: &[f32]) -> TokenId {
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]).then(b.cmp(a)));
    TokenId(best.unwrap() as u32)
}

pub(crate) fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}
