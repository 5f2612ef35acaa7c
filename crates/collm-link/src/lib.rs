//! An emulated network link: a TCP proxy that adds delay and jitter, limits bandwidth, stalls and breaks on command.
//!
//! A kernel's `netem` needs privileges that demos and tests lack, so the link lives in a process. What it models: one
//! shared bottleneck per direction that sends one chunk after another, then propagation that costs time but no
//! bandwidth. Deliberately absent: packet loss and reordering (a TCP stream shows them as delay, which jitter and
//! [`LinkControl::stall`] give), header bytes, and congestion control. Single arrivals are off by up to a millisecond either way, their mean
//! is not; delays below a millisecond a direction are not emulated.

mod bandwidth;
mod connection;
mod control;
mod lane;
mod link;
mod schedule;
mod spec;

pub use bandwidth::{Bandwidth, BandwidthError};
pub use control::{LinkControl, LinkCounters};
pub use link::Link;
pub use spec::{LinkSpec, SpecError};
