//! The proxy: accepts connections and takes each through the link.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream, ToSocketAddrs},
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    LinkControl, LinkSpec,
    connection::{Path, Reset, carry},
    lane::lane,
    spec::Direction,
};

/// A running link. Dropping it stops it at once; connections end as if the process had died.
#[derive(Debug)]
pub struct Link {
    local_addr: SocketAddr,
    control: LinkControl,
    stop: oneshot::Sender<Duration>,
    /// The acceptor alone; a set because it aborts its task when dropped.
    acceptor: JoinSet<()>,
}

impl Link {
    /// Listens on `listen` and leads to `to` (`host:port`, resolved anew for every connection).
    ///
    /// # Errors
    /// When the address cannot be bound, or the specification is out of range ([`io::ErrorKind::InvalidInput`]).
    pub async fn start(listen: impl ToSocketAddrs, to: impl Into<String>, spec: LinkSpec) -> io::Result<Self> {
        let spec = spec.validated().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let listener = TcpListener::bind(listen).await?;
        let local_addr = listener.local_addr()?;
        let control = LinkControl::new(spec);
        let (stop, stopped) = oneshot::channel();
        let mut acceptor = JoinSet::new();
        acceptor.spawn(accept_until(stopped, listener, to.into(), control.clone()));
        Ok(Self { local_addr, control, stop, acceptor })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Commands and counters.
    pub fn control(&self) -> &LinkControl {
        &self.control
    }

    /// Accepts no more connections, gives those that are open `grace` to end by themselves, and resets the rest.
    pub async fn shutdown(mut self, grace: Duration) {
        // A closed channel means that the acceptor is gone already.
        let _ = self.stop.send(grace);
        while self.acceptor.join_next().await.is_some() {}
    }
}

/// How long to wait when the system is out of something (descriptors, mostly).
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

async fn accept_until(
    mut stopped: oneshot::Receiver<Duration>,
    listener: TcpListener,
    to: String,
    control: LinkControl,
) {
    let mut lanes = JoinSet::new();
    let path = open_lanes(&control, &mut lanes);
    let mut connections = JoinSet::new();
    let grace = loop {
        tokio::select! {
            grace = &mut stopped => break grace.unwrap_or_default(),
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((near, _)) if control.is_cut() => reset(&near),
                Ok((near, _)) => { connections.spawn(serve(near, to.clone(), path.clone(), control.cuts())); }
                Err(error) => {
                    warn!(%error, "the link cannot accept a connection");
                    sleep(ACCEPT_RETRY).await;
                }
            },
        }
    };
    drop(listener);
    if timeout(grace, finish(&mut connections)).await.is_err() {
        control.cut();
        finish(&mut connections).await;
    }
}

fn open_lanes(control: &LinkControl, tasks: &mut JoinSet<()>) -> Path {
    let (up, up_lane) = lane(control.clone(), Direction::Up);
    let (down, down_lane) = lane(control.clone(), Direction::Down);
    tasks.spawn(up_lane);
    tasks.spawn(down_lane);
    Path { control: control.clone(), up, down }
}

async fn finish(connections: &mut JoinSet<()>) {
    while connections.join_next().await.is_some() {}
}

/// Takes one connection through the link, from its handshake to its end.
async fn serve(mut near: TcpStream, to: String, path: Path, cuts: u64) {
    path.control.count_connection();
    let mut far = None;
    let ended = tokio::select! {
        () = path.control.broken(cuts) => Err(Reset),
        ended = dial_and_carry(&mut near, &mut far, &to, &path) => ended,
    };
    if ended.is_err() {
        reset(&near);
        far.iter().for_each(reset);
    }
}

async fn dial_and_carry(near: &mut TcpStream, far: &mut Option<TcpStream>, to: &str, path: &Path) -> Result<(), Reset> {
    // The system accepted at once; over a real link TCP's handshake costs a round trip before the first byte.
    sleep(path.control.spec().rtt).await;
    path.control.flowing().await;
    let dialled = TcpStream::connect(to).await.and_then(|far| {
        far.set_nodelay(true)?;
        near.set_nodelay(true)?;
        Ok(far)
    });
    match dialled {
        Ok(stream) => carry(near, far.insert(stream), path).await,
        Err(error) => {
            debug!(%error, to, "the link cannot reach where it leads");
            Err(Reset)
        }
    }
}

/// Makes dropping this socket a reset instead of an orderly close.
fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        debug!(%error, "a connection closes instead of being reset");
    }
}
