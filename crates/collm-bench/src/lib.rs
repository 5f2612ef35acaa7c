//! Measurements, as data: every row that was measured goes into the result, summaries are computed from rows.
//!
//! Deliberately absent: printing and result folders, which belong to whoever asks for a measurement.

pub mod bookkeeping;
pub mod decode_cost;
pub mod engine;
pub mod requantized;
pub mod uploads;
