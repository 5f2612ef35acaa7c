//! Healing as a whole, on small random models: the same states as the engine's, gradients that are slopes, runs that resume,
//! and a loss that falls.
#![allow(clippy::unwrap_used)] // Helpers of tests fail by panicking, as the tests themselves do.

use std::path::Path;
use std::sync::Arc;

use collm_engine::{Engine, Input, Position, Row, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, GgmlRequantize, LoadOptions};
use collm_model::gguf::TensorType;
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, ModelFile};
use collm_train::{Candidates, CheckpointError, HealConfig, HealError, Healer, Piece};

const UPLOAD_AT: u32 = 2;

fn model(folder: &Path, model: &SyntheticModel) -> Arc<ModelFile> {
    let path = folder.join("model.gguf");
    model.write(&path).unwrap();
    Arc::new(ModelFile::open(&path).unwrap())
}

fn llama(folder: &Path) -> Arc<ModelFile> {
    model(folder, &SyntheticModel::new(Architecture::Llama))
}

/// States after the lower layers and after all layers, for tokens without meaning.
fn engine_states(file: &Arc<ModelFile>, positions: usize) -> [Vec<f32>; 2] {
    let options = LoadOptions {
        upload_at: Some(UPLOAD_AT),
        slots: 1,
        context: 256,
        batch_rows_max: 256,
        ..LoadOptions::default()
    };
    let mut engine = GgmlEngine::load(file, &options).unwrap();
    let rows: Vec<Row> = (0..positions).map(|p| Row { slot: SlotId(0), position: Position(p as u32) }).collect();
    let vocabulary = file.hyperparameters().vocabulary;
    let tokens: Vec<TokenId> = (0..positions as u32).map(|p| TokenId((p * 7919 + 5) % vocabulary)).collect();
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    engine.run(Stack::Lower, &rows, Input::Tokens(&tokens), &mut lower).unwrap();
    engine.run(Stack::Upper, &rows, Input::Hidden(&lower), &mut upper).unwrap();
    [lower, upper]
}

fn config(file: &ModelFile) -> HealConfig {
    let tail = (UPLOAD_AT..file.hyperparameters().layers).collect();
    HealConfig { rank: 4, learning_rate: 1e-2, ..HealConfig::new(tail) }
}

/// Random states, and candidates that depend on them in no way.
fn piece(file: &ModelFile, positions: usize, seed: u64) -> Piece {
    let h = file.hyperparameters();
    let mut random = fastrand::Rng::with_seed(seed);
    let states = (0..positions * h.width as usize).map(|_| random.f32() * 4.0 - 2.0).collect();
    let ids = (0..positions * 3).map(|_| random.u32(0..h.vocabulary)).collect();
    let log_probabilities = [0.7f32, 0.2, 0.05].map(f32::ln).repeat(positions);
    let weights = (0..positions).map(|position| if position == 0 { 0.0 } else { 1.0 }).collect();
    Piece::new(h.width as usize, states, Candidates { per_position: 3, ids, log_probabilities }, weights).unwrap()
}

#[test]
fn states_are_those_of_the_engine() {
    for architecture in Architecture::ALL {
        let folder = tempfile::tempdir().unwrap();
        let rope_factors = architecture == Architecture::Llama;
        let biases = true;
        let synthetic = SyntheticModel { biases, rope_factors, ..SyntheticModel::new(architecture) };
        let file = model(folder.path(), &synthetic);
        let [lower, expected] = engine_states(&file, 150);
        let mut healer = Healer::new(&file, &GgmlRequantize, config(&file)).unwrap();
        let candidates = Candidates { per_position: 1, ids: vec![0; 150], log_probabilities: vec![0.0; 150] };
        let whole = Piece::new(file.hyperparameters().width as usize, lower, candidates, vec![1.0; 150]).unwrap();
        // Two sequences together: neither sees the other.
        let passed = healer.pass(&[piece(&file, 20, 1), whole]).unwrap();
        let found = passed[1].states();
        let off: f32 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
        let size: f32 = expected.iter().map(|value| value.powi(2)).sum::<f32>().sqrt();
        assert!(off < 1e-3 * size, "{architecture}: off by {} of its size", off / size);
    }
}

#[test]
fn the_loss_falls_and_agreement_rises() {
    let folder = tempfile::tempdir().unwrap();
    let file = llama(folder.path());
    let config = HealConfig { map: true, quantize: Some(TensorType::Q8_0), ..config(&file) };
    let mut healer = Healer::new(&file, &GgmlRequantize, config).unwrap();
    let pieces = [piece(&file, 40, 1), piece(&file, 25, 2)];
    let before = healer.evaluate(&pieces).unwrap();
    for step in 0..40 {
        healer.step(&pieces, f64::from(step) / 40.0).unwrap();
    }
    let after = healer.evaluate(&pieces).unwrap();
    assert!(after.loss < 0.5 * before.loss && after.agreement > before.agreement + 0.3, "{before:?} {after:?}");
    let deltas = healer.deltas();
    assert_eq!((deltas.layers.len(), deltas.layers[0].low_rank.len(), deltas.layers[0].vectors.len()), (4, 7, 2));
    assert!(deltas.exit.map.is_some());
    let query = &deltas.layers[0].low_rank[0];
    assert_eq!((query.suffix.as_str(), query.rank, query.a.len(), query.b.len()), ("attn_q.weight", 4, 4 * 64, 64 * 4));
}

/// No tail, whose gains alone are too few for candidates that depend on nothing.
#[test]
fn an_mlp_and_a_map_learn_what_a_norm_cannot() {
    let folder = tempfile::tempdir().unwrap();
    let file = llama(folder.path());
    let pieces = [piece(&file, 40, 1)];
    let healed = |config: HealConfig| {
        let mut healer = Healer::new(&file, &GgmlRequantize, HealConfig { tail: Vec::new(), ..config }).unwrap();
        for step in 0..60 {
            healer.step(&pieces, f64::from(step) / 60.0).unwrap();
        }
        (healer.evaluate(&pieces).unwrap().agreement, healer.deltas().exit)
    };
    let (norm, exit) = healed(config(&file));
    assert_eq!((exit.map, exit.mlp), (None, None));
    for (map, mlp) in [(false, 96), (true, 0), (true, 96)] {
        let (agreement, exit) = healed(HealConfig { map, mlp, ..config(&file) });
        assert!(agreement > norm + 0.3, "map {map}, mlp {mlp}: {agreement} where a norm has {norm}");
        let mlp_values = exit.mlp.map_or(0, |mlp| mlp.up.len() + mlp.down.len());
        assert_eq!((exit.map.is_some(), mlp_values), (map, 2 * mlp * 64));
    }
}

#[test]
fn a_tail_without_a_type_of_its_own_is_rounded_as_the_model_is() {
    let folder = tempfile::tempdir().unwrap();
    let synthetic = SyntheticModel { weights: TensorType::Q8_0, ..SyntheticModel::new(Architecture::Llama) };
    let file = model(folder.path(), &synthetic);
    let pieces = [piece(&file, 30, 3)];
    let healed = |quantize| {
        let config = HealConfig { quantize, ..config(&file) };
        let mut healer = Healer::new(&file, &GgmlRequantize, config).unwrap();
        healer.step(&pieces, 0.5).unwrap();
        healer.evaluate(&pieces).unwrap()
    };
    assert_eq!(healed(None), healed(Some(TensorType::Q8_0)));
    assert_ne!(healed(None), healed(Some(TensorType::F32)));
}

#[test]
fn a_resumed_run_is_the_run_that_never_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let file = llama(folder.path());
    let pieces = [piece(&file, 30, 1), piece(&file, 20, 2), piece(&file, 600, 3)];
    let start = |threads| Healer::new(&file, &GgmlRequantize, HealConfig { threads, ..config(&file) }).unwrap();
    let run = |healer: &mut Healer<'_>, steps: std::ops::Range<u32>| {
        for step in steps {
            healer.step(&pieces, f64::from(step) / 6.0).unwrap();
        }
    };
    let mut whole = start(1);
    run(&mut whole, 0..6);
    let path = folder.path().join("checkpoint.safetensors");
    let mut first = start(2);
    run(&mut first, 0..3);
    first.save(&path).unwrap();
    let mut second = start(2);
    second.resume(&path).unwrap();
    assert_eq!((second.steps(), second.seconds()), (3, first.seconds()));
    run(&mut second, 3..6);
    assert_eq!(second.deltas(), whole.deltas());
    let mut never_stopped = first;
    run(&mut never_stopped, 3..6);
    assert_eq!(second.deltas(), never_stopped.deltas());
}

#[test]
fn checkpoints_of_other_runs_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = llama(folder.path());
    let path = folder.path().join("checkpoint.safetensors");
    let start = |config| Healer::new(&file, &GgmlRequantize, config).unwrap();
    start(config(&file)).save(&path).unwrap();
    let config = config(&file);
    for other in [
        HealConfig { rank: 5, ..config.clone() },
        HealConfig { map: true, ..config.clone() },
        HealConfig { mlp: 8, ..config.clone() },
    ] {
        assert!(matches!(start(other).resume(&path), Err(CheckpointError::Other { .. })));
    }
    std::fs::write(&path, "no such thing").unwrap();
    assert!(matches!(start(config).resume(&path), Err(CheckpointError::Read { .. })));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = llama(folder.path());
    let refused = |config| matches!(Healer::new(&file, &GgmlRequantize, config), Err(HealError::Config(_)));
    assert!(refused(HealConfig { tail: vec![6], ..config(&file) }));
    assert!(refused(HealConfig { rank: 0, ..config(&file) }));
    assert!(refused(HealConfig { classes: Some(vec![3, 3]), ..config(&file) }));
    assert!(refused(HealConfig { top_weight: 1.5, ..config(&file) }));
    let mut healer = Healer::new(&file, &GgmlRequantize, config(&file)).unwrap();
    assert!(matches!(healer.step(&[], 0.0), Err(HealError::Nothing { pieces: 0 })));
    let candidates = Candidates { per_position: 1, ids: vec![0], log_probabilities: vec![0.0] };
    let narrow = Piece::new(3, vec![0.0; 3], candidates.clone(), vec![1.0]).unwrap();
    assert!(matches!(healer.step(&[narrow], 0.0), Err(HealError::Piece(_))));
    let unknown = Candidates { ids: vec![u32::MAX], ..candidates };
    let unknown = Piece::new(64, vec![0.0; 64], unknown, vec![1.0]).unwrap();
    assert!(matches!(healer.step(&[unknown], 0.0), Err(HealError::Piece(_))));
    assert_eq!(healer.steps(), 0);
}
