//! Healing a tail: its layers learn, by distillation, to say what the whole model says.
//!
//! Layers were left out of an edge part's tail, so those that stay see states that they were not trained on. Low-rank deltas on
//! their matrices, their norm gains and the exit's norm are fitted to the whole model's own candidates; the weights
//! themselves, and the LM head, stay as they are. candle differentiates; a whole layer is one operation on its tape (`layer`, made
//! of `ops`), whose backward pass is nothing but plain matrix products. Every thread runs pieces of its own, since two
//! products side by side are far faster than one product on two threads.
//!
//! Beside it, [`fit_map`] has an early layer speak to the LM head, [`fit_shortlist`] finds what tells the likeliest tokens cheaply, and
//! [`fit_gate`] learns to tell right guesses from wrong ones.
//!
//! Top-down: [`Healer`] (`healer`) takes [`Piece`]s and makes [`Deltas`]; `tail` is the network, `loss` the objective,
//! `parameters` and `optimizer` what learns, `checkpoint` how a run survives. Deliberately absent: engines (states and
//! candidates are given), text, files of exits, and the choice of the tail.

mod checkpoint;
mod config;
mod deltas;
mod dense;
mod error;
mod gate;
mod healer;
mod lanes;
mod layer;
mod loss;
mod map;
mod moments;
mod ops;
mod optimizer;
mod parameters;
mod piece;
mod shortlist;
mod tail;
mod tape;
mod weights;
mod workers;

pub use config::HealConfig;
pub use deltas::{Deltas, ExitDelta, ExitMlp, LayerDelta, LowRank};
pub use error::{CheckpointError, HealError, PieceError};
pub use gate::{FittedGate, GateExample, fit_gate};
pub use healer::{Healer, StepReport};
pub use loss::Score;
pub use map::{ExitMap, fit_map};
pub use piece::{Candidates, Piece};
pub use shortlist::{ShortlistFactors, fit_shortlist};
