//! What an edge holds, for those who watch it.

use super::{Edge, session::Session};

/// What an edge holds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Occupancy {
    /// Sessions that are being answered.
    pub answering: usize,
    /// Requests that wait for a slot.
    pub waiting: usize,
    /// Sessions that are kept for a follow-up.
    pub parked: usize,
    /// Slots in use, by sessions of both kinds.
    pub slots: usize,
    /// Positions whose keys and values are in a slot.
    pub positions: usize,
    /// Bytes of hidden states kept for the cloud, which may ask for them again.
    pub states_bytes: usize,
}

impl Edge {
    /// What is held now.
    pub fn occupancy(&self) -> Occupancy {
        let parked = self.parked.values().map(|parked| parked.ground.held());
        let held = self.sessions.values().map(Session::held).chain(parked);
        let (positions, states_bytes) = held.fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1));
        Occupancy {
            answering: self.sessions.len(),
            waiting: self.waiting.len(),
            parked: self.parked.len(),
            slots: self.common.config.slots as usize - self.free_slots.len(),
            positions,
            states_bytes,
        }
    }
}
