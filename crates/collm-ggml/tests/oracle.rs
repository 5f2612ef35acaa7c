//! Our numbers against llama.cpp's own, on the same file, with the same key-value type and flash attention.
#![allow(clippy::unwrap_used)] // Helpers of tests fail by panicking, as the tests themselves do.

mod common;

use collm_engine::{BLOCK_ROWS, FIRST_BLOCK};
use collm_ggml::oracle::{Oracle, OracleOptions};
use collm_model::ModelFile;
use common::{Whole, argmax, largest_difference, prompt, real, synthetic, synthetic_models};

const STEPS: usize = 64;
const TOLERANCE: f32 = 1e-2;

/// A prompt of several kinds of batches, then greedy steps: same tokens, logits within the tolerance. llama.cpp computes 64 rows and
/// more on tiles, which we do from the first block on; before it gets fewer at a time.
fn agrees(name: &str, file: &std::sync::Arc<ModelFile>) {
    let layers = file.hyperparameters().layers;
    let mut ours = Whole::of_whole(file, layers / 3);
    let options = OracleOptions { context: 512, batch_rows: 128, threads: 1, repack: true };
    let mut oracle = Oracle::load(file.path(), options).unwrap();
    let prompt = prompt(ours.shape(), FIRST_BLOCK + 100);
    let (free, blocks) = prompt.split_at(FIRST_BLOCK);
    for rows in free.chunks(BLOCK_ROWS) {
        ours.decode(rows);
        rows.chunks(BLOCK_ROWS / 2).for_each(|rows| assert!(oracle.decode(rows).is_ok()));
    }
    let mut largest: f32 = 0.0;
    let (mut step, mut token) = (0, None);
    let pieces = [&blocks[..BLOCK_ROWS], &blocks[BLOCK_ROWS..99], &blocks[99..]];
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
