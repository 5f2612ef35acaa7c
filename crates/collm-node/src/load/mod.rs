//! Load for a cloud, from edges that were recorded: two cores can stand for a cloud and many devices.
//!
//! A [`Recorder`] stands between one edge and its cloud and writes down who said what when; a [`Trace`] is what follows from it: what
//! the edge sent, how long it computed before, and for which answers it had waited; a [`Replayer`] does the same again, in a session of
//! its own, over the same protocol. Deliberately absent: engines, and edges that act otherwise because answers come later. A replayed
//! edge runs ahead as far as the recorded one did.

mod recorder;
mod replay;
mod trace;

pub use self::{
    recorder::{RecordError, Recorder},
    replay::{ReplayError, Replayer},
    trace::Trace,
};
