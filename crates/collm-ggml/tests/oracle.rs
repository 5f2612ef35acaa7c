//! Our numbers against llama.cpp's own, on the same file, with the same key-value type and flash attention.
#![allow(clippy::unwrap_used)] // Helpers of tests fail by panicking, as the tests themselves do.

mod common;

use collm_ggml::oracle::{Oracle, OracleOptions};
use collm_model::ModelFile;
use common::{Whole, argmax, largest_difference, prompt, real, synthetic, synthetic_models};

const STEPS: usize = 64;
const TOLERANCE: f32 = 1e-2;

/// A prompt of several kinds of batches, then greedy steps: same tokens, logits within the tolerance.
fn agrees(name: &str, file: &std::sync::Arc<ModelFile>) {
    let layers = file.hyperparameters().layers;
    let mut ours = Whole::of_whole(file, layers / 3);
    let options = OracleOptions { context: 256, batch_rows: 128, threads: 1, repack: true };
    let mut oracle = Oracle::load(file.path(), options).unwrap();
    let prompt = prompt(ours.shape(), 100);
    let mut largest: f32 = 0.0;
    let (mut step, mut token) = (0, None);
    let pieces = [&prompt[..64], &prompt[64..99], &prompt[99..]];
    while step < pieces.len() + STEPS {
        let next = token.as_slice();
        let input = pieces.get(step).copied().unwrap_or(next);
        let (found, expected) = (ours.decode(input), oracle.decode(input).unwrap());
        largest = largest.max(largest_difference(&found, expected));
        token = Some(argmax(expected));
        assert_eq!(Some(argmax(&found)), token, "{name}: step {step}");
        step += 1;
    }
    println!("{name}: {STEPS} greedy tokens the same, largest difference of a logit {largest:e}");
    assert!(largest <= TOLERANCE, "{name}: off by {largest}");
}

#[test]
fn agrees_on_smollm2() {
    agrees("smollm2-135m", &real("smollm2-135m"));
}

#[test]
fn agrees_on_gemma3() {
    agrees("gemma3-270m", &real("gemma3-270m"));
}

#[test]
fn agrees_on_small_random_models_of_every_family() {
    let folder = tempfile::tempdir().unwrap();
    for model in synthetic_models() {
        let file = synthetic(folder.path(), &model);
        agrees(&format!("{} {}", model.architecture, model.weights), &file);
    }
}
