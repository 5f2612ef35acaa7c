//! The protocol's bytes: the generated gRPC service, and the conversion between its messages and the core's frames.
//!
//! Parse, don't validate: what a peer sent becomes a [`collm_core::frame`] within its limits, or a [`WireError`] that
//! names the rule it broke. The order of frames over time is the core's business; sockets and credentials are the drivers'.

mod emit;
mod error;
mod grammar;
mod parse;
mod refusal;

pub use error::WireError;
pub use parse::{SessionParser, parse_open};
use prost::Message;
pub use refusal::{refusal, status};

/// Messages, client and server as generated from `proto/collm/v1/collm.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod proto {
    tonic::include_proto!("collm.v1");
}

/// Metadata of a stream: the session id in hexadecimal, so that a load balancer can keep a session on one cloud without
/// reading frames. Routing only: the cloud believes the `Open` frame.
pub const SESSION_METADATA: &str = "collm-session";

/// Metadata of a stream: `Bearer` and a key, where the cloud asks for one.
pub const AUTHORIZATION_METADATA: &str = "authorization";

/// Bytes of gRPC's own before every message: compression flag and length.
const GRPC_PREFIX_BYTES: usize = 5;

/// Bytes that an [`proto::EdgeFrame`] or [`proto::CloudFrame`] takes in its stream, for statistics. HTTP/2's framing,
/// about 9 bytes for each 16 KiB, is not counted.
pub fn frame_bytes(frame: &impl Message) -> usize {
    GRPC_PREFIX_BYTES + frame.encoded_len()
}
