//! How many positions a second a step of healing takes, on random states.
//!
//! `cargo run --release -p collm-train --example heal_speed -- MODEL.gguf [THREADS] [CLASSES] [RANK] [STEPS] [QUANTIZE]`
#![allow(clippy::unwrap_used)] // A measurement by hand fails by panicking.

use std::path::Path;

use collm_ggml::GgmlRequantize;
use collm_model::ModelFile;
use collm_train::{Candidates, HealConfig, Healer, Piece};

const LENGTH: usize = 256;
const PIECES: usize = 4;
const CANDIDATES: usize = 16;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |index: usize, default: usize| arguments.get(index).map_or(default, |text| text.parse().unwrap());
    let file = ModelFile::open(Path::new(&arguments[0])).unwrap();
    let (threads, classes) = (number(1, 2), number(2, 12_288) as u32);
    let h = file.hyperparameters();
    let config = HealConfig {
        threads,
        classes: (classes < h.vocabulary).then(|| (0..classes).collect()),
        rank: number(3, 16),
        quantize: arguments.get(5).map(|name| name.parse().unwrap()),
        ..HealConfig::new((h.layers.saturating_sub(14)..h.layers).collect())
    };
    let mut random = fastrand::Rng::with_seed(1);
    let pieces: Vec<Piece> = (0..PIECES).map(|_| piece(h.width as usize, classes, &mut random)).collect();
    let mut healer = Healer::new(&file, &GgmlRequantize, config).unwrap();
    for _ in 0..number(4, 4) {
        let report = healer.step(&pieces, 0.1).unwrap();
        println!("{:.0} positions/s, {report:?}", report.positions as f64 / report.seconds);
    }
}

fn piece(width: usize, classes: u32, random: &mut fastrand::Rng) -> Piece {
    let states = (0..LENGTH * width).map(|_| random.f32() * 2.0 - 1.0).collect();
    let ids = (0..LENGTH * CANDIDATES).map(|_| random.u32(0..classes)).collect();
    let likely = (0..LENGTH * CANDIDATES).map(|index| -1.0 - (index % CANDIDATES) as f32).collect();
    let candidates = Candidates { per_position: CANDIDATES, ids, log_probabilities: likely };
    Piece::new(width, states, candidates, vec![1.0; LENGTH]).unwrap()
}
