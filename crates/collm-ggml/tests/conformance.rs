//! The laws of every engine, on real weights and on small random ones of every family.
#![allow(clippy::unwrap_used)] // Helpers of tests fail by panicking, as the tests themselves do.

mod common;

use std::sync::Arc;

use collm_engine::{Engine, EngineError, FIRST_BLOCK, Head, Input, Interrupt, Scope, SlotId, TokenId, conformance};
use collm_ggml::{GgmlEngine, GgmlRequantize, LoadOptions};
use collm_model::gguf::TensorType;
use collm_model::split::{SplitOptions, plan};
use collm_model::{Architecture, ModelFile, synthetic::SyntheticModel};
use common::{Whole, largest_difference, open, options, prompt, real, rows, synthetic, synthetic_models};

fn conforms(file: &Arc<ModelFile>, tolerance: f32) {
    let options = LoadOptions { context: 96, ..options() };
    conformance::check(&mut GgmlEngine::load(file, &options).unwrap(), tolerance);
}

/// Matrix kernels of full precision add up in another order for one row than for several, and key-value memory in f16 makes
/// more of it.
fn tolerance(model: &SyntheticModel) -> f32 {
    if model.weights == TensorType::F32 { 1e-2 } else { 0.0 }
}

#[test]
fn real_quantised_weights_conform_to_the_last_bit() {
    conforms(&real("smollm2-135m"), 0.0);
}

/// [`conformance`] cannot demand it of every engine.
#[test]
fn the_processor_can_be_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let file = synthetic(folder.path(), &synthetic_models()[0]);
    let mut engine = GgmlEngine::load(&file, &LoadOptions { context: 256, batch_rows_max: 256, ..options() }).unwrap();
    let interrupt = Arc::new(Interrupt::default());
    engine.heed(Arc::clone(&interrupt));
    // Several blocks, of which each is a graph of its own.
    let (tokens, rows) = (vec![TokenId(5); 200], rows(0, 200));
    let stack = engine.shape().stacks[0];
    let (mut hidden, mut scores) = Default::default();
    let mut run = |number, stopped: bool| {
        interrupt.begin(number);
        if stopped {
            interrupt.stop(number);
        }
        let run = engine.run(stack, &rows, Input::Tokens(&tokens), &mut hidden);
        engine.truncate(SlotId(0), 0);
        run
    };
    assert_eq!(run(1, true), Err(EngineError::Interrupted));
    assert_eq!(run(2, false), Ok(()));
    assert_eq!(run(3, true), Err(EngineError::Interrupted));
    let state = vec![0.5; engine.shape().width];
    assert_eq!(engine.score(Head::Final, Scope::Full, &state, &mut scores), Err(EngineError::Interrupted));
    interrupt.begin(4);
    assert_eq!(engine.score(Head::Final, Scope::Full, &state, &mut scores), Ok(()));
}

#[test]
fn every_family_conforms() {
    let folder = tempfile::tempdir().unwrap();
    for model in synthetic_models() {
        conforms(&synthetic(folder.path(), &model), tolerance(&model));
    }
}

/// Splits at `at` and returns the paths' files, edge first.
fn split(file: &ModelFile, at: u32, folder: &std::path::Path) -> [Arc<ModelFile>; 2] {
    let tail = vec![file.hyperparameters().layers - 1];
    let options = SplitOptions { upload_at: at, tail, exit1: true, requantize: None, exits: None };
    let [edge, cloud] = ["edge", "cloud"].map(|role| folder.join(format!("{at}.{role}.gguf")));
    plan(file, &options, &mut |_| ()).unwrap().write(&edge, &cloud, Some(&GgmlRequantize), &mut |_| ()).unwrap();
    [open(&edge), open(&cloud)]
}

#[test]
fn divided_at_any_layer_is_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for model in synthetic_models() {
        let file = synthetic(folder.path(), &model);
        let mut first = Whole::of_whole(&file, 1);
        let prompt = prompt(first.shape(), 20);
        let expected = first.greedy(&prompt, 12);
        for at in 2..model.layers {
            assert_eq!(Whole::of_whole(&file, at).greedy(&prompt, 12), expected, "{} at {at}", model.architecture);
        }
    }
}

#[test]
fn parts_together_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    for model in synthetic_models() {
        let file = synthetic(folder.path(), &model);
        let mut whole = Whole::of_whole(&file, 3);
        let prompt = prompt(whole.shape(), 20);
        let [edge, cloud] = split(&file, 3, folder.path());
        let mut parts = Whole::of_parts(&edge, &cloud);
        assert_eq!(parts.greedy(&prompt, 12), whole.greedy(&prompt, 12), "{}", model.architecture);
        conforms(&edge, tolerance(&model));
    }
}

#[test]
fn parts_of_a_real_model_together_are_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = real("smollm2-135m");
    let [edge, cloud] = split(&file, 10, folder.path());
    let mut whole = Whole::of_whole(&file, 20);
    let prompt = prompt(whole.shape(), 80);
    assert_eq!(Whole::of_parts(&edge, &cloud).greedy(&prompt, 16), whole.greedy(&prompt, 16));
}

/// Which rows are computed on tiles depends on positions alone: prompts may be cut anywhere before the first block and at any block
/// after it, and generated positions may come in any batch. 560 positions, since from 512 on ggml would also divide the key-value memory of a single row.
#[test]
fn blocks_decide_the_bits_and_nothing_else_does() {
    let folder = tempfile::tempdir().unwrap();
    let of = SyntheticModel::new;
    let models = [
        SyntheticModel { kv_heads: 2, seed: 2, ..of(Architecture::Llama) },
        SyntheticModel { kv_heads: 4, seed: 4, ..of(Architecture::Llama) },
        // Windows that begin within blocks.
        SyntheticModel { sliding_window: 128, seed: 5, ..of(Architecture::Gemma3) },
    ];
    for model in models {
        let model = SyntheticModel { weights: TensorType::Q8_0, ..model };
        let file = synthetic(folder.path(), &model);
        let options = LoadOptions { context: 640, batch_rows_max: 640, ..options() };
        let mut engine = GgmlEngine::load(&file, &options).unwrap();
        let together = in_calls(&mut engine, &[560]);
        for calls in [&[64, 128, 320, 48][..], &[512, 1, 40, 7], &[256, 299, 5]] {
            assert_eq!(largest_difference(&together, &in_calls(&mut engine, calls)), 0.0, "{calls:?}");
        }
        let one_by_one = in_calls(&mut engine, &[1; 560]);
        let free = FIRST_BLOCK * engine.shape().width;
        assert_eq!(largest_difference(&together[..free], &one_by_one[..free]), 0.0, "before the first block");
        for calls in [&[16; 16][..], &[100, 156], &[63, 1, 190, 2]] {
            let pieces = in_calls(&mut engine, calls);
            assert_eq!(largest_difference(&together[..free], &pieces), 0.0, "{calls:?}");
        }
        for calls in [&[63; 8][..], &[2; 280], &[40, 63, 63, 7, 33, 60]] {
            let pieces = in_calls(&mut engine, calls);
            assert_eq!(largest_difference(&one_by_one[..pieces.len()], &pieces), 0.0, "{calls:?}");
        }
    }
}

/// The lower stack's output for the first positions of a prompt that come in calls of so many rows.
fn in_calls(engine: &mut GgmlEngine, calls: &[usize]) -> Vec<f32> {
    use collm_engine::{Engine, Input, SlotId, Stack};
    let tokens = prompt(engine.shape(), 560);
    let (mut all, mut hidden, mut first) = (Vec::new(), Vec::new(), 0);
    for &count in calls {
        let input = Input::Tokens(&tokens[first..first + count]);
        engine.run(Stack::Lower, &rows(first, count), input, &mut hidden).unwrap();
        all.extend_from_slice(&hidden);
        first += count;
    }
    engine.truncate(SlotId(0), 0);
    all
}
