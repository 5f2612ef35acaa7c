//! Commands and counters of a running link.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::watch;

use crate::spec::{Direction, LinkSpec, Shape, SpecError};

/// Changes a running link and reads its counters. Clones command the same link.
#[derive(Debug, Clone)]
pub struct LinkControl(Arc<Inner>);

/// What has passed through a link since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkCounters {
    /// Connections taken, not counting those that a cut link resets.
    pub connections: u64,
    /// Bytes delivered to where the link leads.
    pub up_bytes: u64,
    /// Bytes delivered to those who connected.
    pub down_bytes: u64,
}

#[derive(Debug)]
struct Inner {
    state: watch::Sender<State>,
    spec: watch::Sender<LinkSpec>,
    connections: AtomicU64,
    up_bytes: AtomicU64,
    down_bytes: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Flowing,
    Stalled,
    Cut,
}

#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often the link was cut. A connection of an earlier count is broken, even if the link was restored before the
    /// connection could look.
    cuts: u64,
}

impl LinkControl {
    pub(crate) fn new(spec: LinkSpec) -> Self {
        Self(Arc::new(Inner {
            state: watch::Sender::new(State { mode: Mode::Flowing, cuts: 0 }),
            spec: watch::Sender::new(spec),
            connections: AtomicU64::new(0),
            up_bytes: AtomicU64::new(0),
            down_bytes: AtomicU64::new(0),
        }))
    }

    /// Resets every connection, and every new one as soon as it is accepted, until [`Self::restore`]. The port stays
    /// taken, so that nobody else gets it meanwhile.
    pub fn cut(&self) {
        self.0.state.send_modify(|state| *state = State { mode: Mode::Cut, cuts: state.cuts + 1 });
    }

    /// Becomes a black hole until [`Self::restore`]: accepts connections and bytes, and delivers nothing, not even that
    /// a peer went away. Senders feel it once the window is full.
    pub fn stall(&self) {
        self.0.state.send_modify(|state| state.mode = Mode::Stalled);
    }

    /// Ends a cut or a stall. What a stall held back is delivered.
    pub fn restore(&self) {
        self.0.state.send_modify(|state| state.mode = Mode::Flowing);
    }

    /// Changes delays and bandwidths for chunks that are not on the line yet. The seed stays the first one.
    ///
    /// # Errors
    /// When a setting is out of range; nothing changes then.
    pub fn reshape(&self, spec: LinkSpec) -> Result<(), SpecError> {
        self.0.spec.send_replace(spec.validated()?);
        Ok(())
    }

    /// What the link is like now.
    pub fn spec(&self) -> LinkSpec {
        *self.0.spec.borrow()
    }

    /// What has passed so far.
    pub fn counters(&self) -> LinkCounters {
        LinkCounters {
            connections: self.0.connections.load(Ordering::Relaxed),
            up_bytes: self.0.up_bytes.load(Ordering::Relaxed),
            down_bytes: self.0.down_bytes.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn shape(&self, direction: Direction) -> Shape {
        self.0.spec.borrow().shape(direction)
    }

    /// Waits while the link delivers nothing.
    pub(crate) async fn flowing(&self) {
        self.until(|state| state.mode != Mode::Stalled).await;
    }

    /// Waits until the link is cut once more than `cuts` times.
    pub(crate) async fn broken(&self, cuts: u64) {
        self.until(|state| state.cuts != cuts).await;
    }

    /// Whether it was cut and not restored since.
    pub fn is_cut(&self) -> bool {
        self.0.state.borrow().mode == Mode::Cut
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.0.state.borrow().cuts
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) {
        let mut state = self.0.state.subscribe();
        state.wait_for(|state| holds(state)).await.expect("this control holds the sender");
    }

    pub(crate) fn count_connection(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_delivered(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.0.up_bytes,
            Direction::Down => &self.0.down_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
