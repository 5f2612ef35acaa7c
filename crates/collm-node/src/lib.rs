//! The drivers: sockets, clocks, threads and metrics around the pure state machines of `collm-core`.
//!
//! [`EdgeNode`] and [`CloudNode`] feed a core with what happens and do what it asks for. They are generic over the engine,
//! which the binary plugs in. Deliberately absent: decisions (the core's), tensors (the engine's), HTTP and its JSON.

pub mod access;
pub mod answer;
mod clock;
mod cloud;
pub mod connections;
mod edge;
mod engine_thread;
pub mod load;
pub mod metrics;
mod session;
pub mod text;
pub mod tls;

pub use cloud::{CloudNode, CloudOptions, CloudServeError};
pub use edge::{
    AnswerEvent, AnswerStream, CloudEndpoint, CloudKey, EdgeHandle, EdgeNode, EdgeOptions, EdgeStartError,
    EndpointError, Finished, LinkState, RequestError, Traffic,
};
pub use engine_thread::EngineStartError;
pub use session::{SessionIdError, fresh_session};

pub use edge::{ProbeError, Probed, probe};
