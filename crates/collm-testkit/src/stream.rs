//! One connection attempt between an edge and a cloud: when frames arrive, and which end still believes in it.

use std::time::Duration;

use collm_core::{
    cloud::PeerId,
    frame::{ToCloud, ToEdge},
    time::Time,
};

use crate::{plan::LinkPlan, random::Random, uploads::Uploads};

/// Bytes of a frame besides its payload.
const OVERHEAD_BYTES: usize = 40;

/// One attempt to connect. Kept after its end, since stragglers may still arrive.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) edge: usize,
    pub(crate) cloud: usize,
    /// Which life of the cloud it leads to.
    pub(crate) generation: u32,
    pub(crate) peer: PeerId,
    /// The edge neither left nor was told that it is down.
    pub(crate) edge_holds: bool,
    /// The cloud neither left nor was told that it is down.
    pub(crate) cloud_holds: bool,
    /// Frames vanish, and nobody is told.
    pub(crate) black_hole: bool,
    /// What is in flight is lost.
    pub(crate) cut: bool,
    pub(crate) up: Lane,
    pub(crate) down: Lane,
    pub(crate) uploads: Uploads,
}

impl Stream {
    /// Whether frames reach the other end at all.
    pub(crate) fn carries(&self) -> bool {
        !self.cut && !self.black_hole
    }

    /// Whether any end believes in it.
    pub(crate) fn is_live(&self) -> bool {
        self.edge_holds || self.cloud_holds
    }
}

/// One direction of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lane {
    /// The sender's interface is busy until then.
    sent: Time,
    /// The last frame arrives then; later ones not before.
    arrived: Time,
}

impl Lane {
    /// When a frame of this size arrives that is sent now.
    pub(crate) fn arrival(&mut self, now: Time, bytes: usize, link: &LinkPlan, random: &mut Random) -> Time {
        let transmission = Duration::from_secs_f64(bytes as f64 / link.bytes_per_second as f64);
        self.sent = self.sent.max(now) + transmission;
        let jitter = random.span_us(0..=link.jitter.as_micros() as u64);
        self.arrived = self.arrived.max(self.sent + link.latency + jitter);
        self.arrived
    }

    /// Nothing arrives before.
    pub(crate) fn hold_until(&mut self, moment: Time) {
        self.arrived = self.arrived.max(moment);
    }
}

/// Roughly what a frame takes on the wire.
pub(crate) fn up_bytes(frame: &ToCloud) -> usize {
    OVERHEAD_BYTES
        + match frame {
            ToCloud::States { block, .. } => block.bytes().len(),
            ToCloud::Tokens { tokens, .. } => tokens.len() * 4,
            _ => 0,
        }
}

/// Roughly what a frame takes on the wire.
pub(crate) fn down_bytes(_: &ToEdge) -> usize {
    OVERHEAD_BYTES
}
