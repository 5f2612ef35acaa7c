//! What an edge part has of its own: tails of any layers, heads with any of their pieces, shortlists.
#![allow(clippy::unwrap_used)] // Helpers of tests fail by panicking, as the tests themselves do.

mod common;

use std::path::Path;
use std::sync::Arc;

use collm_engine::{Engine, Head, Input, Scope, Scores, SlotId, Stack, TokenId, conformance};
use collm_ggml::{GgmlEngine, GgmlRequantize, LoadOptions};
use collm_model::exits::{ExitsDraft, ExitsFile, FittedCut};
use collm_model::gguf::{Gguf, GgufWriter, TensorType, TensorView, Value};
use collm_model::split::{SplitOptions, plan};
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, Digest, ExitNumber, ModelFile};
use common::{largest_difference, open, options, prompt, real, rows, synthetic};

/// Where the edge uploads.
const AT: u32 = 2;

/// The edge part of `file` with this cut, and with exits if they are given.
fn edge(file: &ModelFile, options: &SplitOptions<'_>, folder: &Path) -> Arc<ModelFile> {
    let [edge, cloud] = ["edge.gguf", "cloud.gguf"].map(|name| folder.join(name));
    plan(file, options, &mut |_| ()).unwrap().write(&edge, &cloud, Some(&GgmlRequantize), &mut |_| ()).unwrap();
    open(&edge)
}

fn draft(file: &ModelFile, tail: Vec<u32>) -> ExitsDraft {
    let source_sha256 = Digest::of(file.gguf().bytes());
    ExitsDraft::new(FittedCut { source_sha256, upload_at: AT, tail, exit1: true, tail_type: None })
}

fn fitted(file: &ModelFile, draft: &ExitsDraft, folder: &Path) -> Arc<ModelFile> {
    let exits = ExitsFile::from_bytes(draft.to_bytes().unwrap()).unwrap();
    edge(file, &SplitOptions::of_exits(&exits), folder)
}

fn engine(file: &Arc<ModelFile>) -> GgmlEngine {
    GgmlEngine::load(file, &LoadOptions { upload_at: Some(AT), ..options() }).unwrap()
}

/// States after `[0, AT)` and the next stack, of a prompt in one call and of some positions one by one.
fn states(engine: &mut GgmlEngine, second: Stack) -> [Vec<f32>; 2] {
    let tokens = prompt(engine.shape(), 30);
    let (mut all, mut states) = ([Vec::new(), Vec::new()], Vec::new());
    for (first, count) in [(0, 25), (25, 1), (26, 1), (27, 3)] {
        let rows = rows(first, count);
        engine.run(Stack::Lower, &rows, Input::Tokens(&tokens[first..first + count]), &mut states).unwrap();
        all[0].extend_from_slice(&states);
        let lower = states.clone();
        engine.run(second, &rows, Input::Hidden(&lower), &mut states).unwrap();
        all[1].extend_from_slice(&states);
    }
    engine.truncate(SlotId(0), 0);
    all
}

/// A whole model whose layers are the first ones of `source` and then these, under the names and numbers of any whole model: what a
/// tail computes, without anything that knows of tails.
fn rearranged(source: &ModelFile, tail: &[u32], path: &Path) -> Arc<ModelFile> {
    let order: Vec<u32> = (0..AT).chain(tail.iter().copied()).collect();
    let block_count = format!("{}.block_count", source.hyperparameters().architecture.name());
    let mut writer = GgufWriter::new();
    for (key, value) in source.gguf().metadata() {
        let value = if key == block_count { Value::U32(order.len() as u32) } else { value };
        writer.set(key, value);
    }
    let views: Vec<(String, TensorView<'_>)> = rearranged_tensors(source.gguf(), &order);
    for (name, view) in &views {
        writer.add_tensor(name, view.ty, view.stated_dims()).unwrap();
    }
    let data = |name: &str, out: &mut dyn std::io::Write| {
        let (_, view) = views.iter().find(|(found, _)| found == name).unwrap();
        out.write_all(view.data)
    };
    writer.write(path, data).unwrap();
    open(path)
}

fn rearranged_tensors<'a>(gguf: &'a Gguf, order: &[u32]) -> Vec<(String, TensorView<'a>)> {
    let mut views = Vec::new();
    for info in gguf.tensors() {
        let view = gguf.tensor(&info.name).unwrap();
        let Some((layer, suffix)) = info.name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            views.push((info.name.clone(), view));
            continue;
        };
        let layer: u32 = layer.parse().unwrap();
        let places = order.iter().enumerate().filter(|(_, source)| **source == layer);
        views.extend(places.map(|(place, _)| (format!("blk.{place}.{suffix}"), view)));
    }
    views
}

/// Layers in any order, left out, and there already below the tail. The last of gemma3's six layers alone sees everything, and
/// whether a layer does is decided by its number in the source; so it stays out of this.
#[test]
fn a_tail_computes_its_layers_in_its_order() {
    let folder = tempfile::tempdir().unwrap();
    for (architecture, weights) in Architecture::ALL.into_iter().zip([TensorType::Q8_0, TensorType::F32].repeat(2)) {
        let model = SyntheticModel { weights, biases: true, ..SyntheticModel::new(architecture) };
        let source = synthetic(folder.path(), &model);
        for tail in [vec![2, 3], vec![4, 2, 3], vec![3], vec![0, 4], vec![1, 0, 3]] {
            let whole = rearranged(&source, &tail, &folder.path().join("rearranged.gguf"));
            let cut = SplitOptions { upload_at: AT, tail: tail.clone(), exit1: true, requantize: None, exits: None };
            let mut edge = engine(&edge(&source, &cut, folder.path()));
            let expected = states(&mut engine(&whole), Stack::Upper);
            assert_eq!(states(&mut edge, Stack::Tail), expected, "{architecture} with tail {tail:?}");
            conformance::check(&mut edge, if weights == TensorType::F32 { 1e-2 } else { 0.0 });
        }
    }
}

#[test]
fn a_window_goes_with_the_layer_and_not_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let model = SyntheticModel { sliding_window: 4, ..SyntheticModel::new(Architecture::Gemma3) };
    let source = synthetic(folder.path(), &model);
    let cut = |tail| SplitOptions { upload_at: AT, tail, exit1: true, requantize: None, exits: None };
    // Layer 5 sees everything. As the model's last layer it follows 2, 3 and 4 as it does in the whole model.
    let mut edge = engine(&edge(&source, &cut(vec![2, 3, 4, 5]), folder.path()));
    assert_eq!(states(&mut edge, Stack::Tail), states(&mut engine(&source), Stack::Upper));
}

#[test]
fn a_tail_without_layers_hands_through_what_is_uploaded() {
    let folder = tempfile::tempdir().unwrap();
    let source = synthetic(folder.path(), &SyntheticModel::new(Architecture::Llama));
    let cut = SplitOptions { upload_at: AT, tail: Vec::new(), exit1: false, requantize: None, exits: None };
    let mut edge = engine(&edge(&source, &cut, folder.path()));
    let [lower, tail] = states(&mut edge, Stack::Tail);
    assert_eq!(lower, tail);
    conformance::check(&mut edge, 1e-2);
}

fn wave(count: usize, amplitude: f32) -> Vec<f32> {
    (0..count).map(|index| (index as f32 * 0.77).sin() * amplitude).collect()
}

/// Rows of `row` values each, times `x`.
fn product(matrix: &[f32], row: usize, x: &[f32]) -> Vec<f32> {
    matrix.chunks_exact(row).map(|weights| weights.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
}

/// Any subset of a head, against the same computed by hand. The widths are a small model's: 64, with 96 in the MLP.
#[test]
fn heads_compute_the_pieces_that_they_have() {
    const WIDTH: usize = 64;
    const INNER: usize = 96;
    let (gain, bias) = (wave(WIDTH, 0.8), wave(WIDTH, 0.3));
    let (map, up, down) = (wave(WIDTH * WIDTH, 0.2), wave(WIDTH * INNER, 0.2), wave(INNER * WIDTH, 0.1));
    let folder = tempfile::tempdir().unwrap();
    let source = synthetic(folder.path(), &SyntheticModel::new(Architecture::Llama));
    let epsilon = source.hyperparameters().rms_eps;
    for pieces in 0..8 {
        let [has_norm, has_map, has_mlp] = [1, 2, 4].map(|bit| pieces & bit != 0);
        let mut draft = draft(&source, vec![5]);
        let (exit, f32) = (ExitNumber::Two, TensorType::F32);
        if has_norm {
            draft.set_head_vector(exit, "norm.weight", &gain);
        }
        if has_map {
            draft.set_head_matrix(exit, "map.weight", WIDTH, &map, f32).unwrap();
            draft.set_head_vector(exit, "map.bias", &bias);
        }
        if has_mlp {
            draft.set_head_matrix(exit, "mlp.up.weight", WIDTH, &up, f32).unwrap();
            draft.set_head_matrix(exit, "mlp.down.weight", INNER, &down, f32).unwrap();
        }
        let mut engine = engine(&fitted(&source, &draft, folder.path()));
        let hidden = wave(WIDTH, 3.0);
        let mut scores = Scores::default();
        engine.score(Head::Exit2, Scope::Full, &hidden, &mut scores).unwrap();
        let own = source.tensor("output_norm.weight").unwrap();
        let gain = if has_norm { gain.clone() } else { floats(own.data) };
        let mean: f32 = hidden.iter().map(|x| x * x).sum::<f32>() / WIDTH as f32;
        let normed: Vec<f32> = hidden.iter().zip(&gain).map(|(x, gain)| x / (mean + epsilon).sqrt() * gain).collect();
        let mut expected = normed.clone();
        if has_map {
            expected = product(&map, WIDTH, &normed).iter().zip(&bias).map(|(x, bias)| x + bias).collect();
        }
        if has_mlp {
            let inner: Vec<f32> = product(&up, WIDTH, &normed).iter().map(|x| x / (1.0 + (-x).exp())).collect();
            expected = expected.iter().zip(product(&down, INNER, &inner)).map(|(a, b)| a + b).collect();
        }
        let named = format!("norm {has_norm}, map {has_map}, mlp {has_mlp}");
        assert!(largest_difference(&scores.states, &expected) < 1e-3, "{named}");
        let logits = product(&floats(source.output().data), WIDTH, &expected);
        assert!(largest_difference(&scores.logits, &logits) < 1e-2, "{named}");
    }
}

fn floats(data: &[u8]) -> Vec<f32> {
    data.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Has exit 2 make shortlists of `length` tokens at the full rank, where every token's key is its own row of the LM head.
fn set_shortlist(draft: &mut ExitsDraft, length: u32, width: usize) {
    let unit: Vec<f32> = (0..width * width).map(|at| f32::from(u8::from(at / width == at % width))).collect();
    draft.set_shortlist(ExitNumber::Two, length, width, [&unit; 2], TensorType::F32).unwrap();
}

/// The likeliest of all, whatever layout and type the LM head has; more than that is left to the suite, which compares the shortlist's
/// logits with those of the whole vocabulary.
#[test]
fn shortlists_have_the_likeliest_tokens() {
    let folder = tempfile::tempdir().unwrap();
    for weights in [TensorType::Q4_0, TensorType::Q8_0, TensorType::F16, TensorType::F32] {
        for tied in [false, true] {
            let model = SyntheticModel { weights, tied, ..SyntheticModel::new(Architecture::Llama) };
            let source = synthetic(folder.path(), &model);
            let mut draft = draft(&source, vec![5]);
            set_shortlist(&mut draft, 9, source.hyperparameters().width as usize);
            let mut engine = engine(&fitted(&source, &draft, folder.path()));
            assert_eq!((engine.shortlist(Head::Exit1), engine.shortlist(Head::Exit2)), (None, Some(9)));
            let [_, states] = states(&mut engine, Stack::Tail);
            let mut scores = Scores::default();
            engine.score(Head::Exit2, Scope::Full, &states, &mut scores).unwrap();
            for row in scores.rows(source.hyperparameters().width as usize) {
                let best = (0..row.logits.len()).max_by(|a, b| row.logits[*a].total_cmp(&row.logits[*b])).unwrap();
                assert!(row.shortlist.unwrap().tokens.contains(&TokenId(best as u32)), "{weights}, tied: {tied}");
            }
            let quantised = !matches!(weights, TensorType::F16 | TensorType::F32);
            conformance::check(&mut engine, if quantised { 0.0 } else { 1e-2 });
        }
    }
}

/// Those that come with the program, on the model's own weights.
#[test]
fn shortlists_of_a_real_model_have_the_likeliest_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let source = real("smollm2-135m");
    let exits = ExitsFile::from_bytes(include_bytes!("../../../exits/smollm2-135m.exits.gguf").to_vec()).unwrap();
    let file = edge(&source, &SplitOptions::of_exits(&exits), folder.path());
    let mut engine = GgmlEngine::load(&file, &options()).unwrap();
    conformance::check(&mut engine, 0.0);
    let [_, states] = states(&mut engine, Stack::Tail);
    let mut scores = Scores::default();
    engine.score(Head::Exit2, Scope::Full, &states, &mut scores).unwrap();
    let best = |logits: &[f32]| (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
    let rows: Vec<bool> = scores
        .rows(source.hyperparameters().width as usize)
        .map(|row| row.shortlist.unwrap().tokens.contains(&TokenId(best(row.logits) as u32)))
        .collect();
    let missed = rows.iter().filter(|has| !**has).count();
    assert!(10 * missed <= rows.len(), "{missed} of {} states", rows.len());
}
