//! A simulated world for the collaboration: many edges and clouds, their links and what may befall them, in virtual time.
//!
//! The state machines are the real ones, the engines are scripted, and everything random comes from one seed. A [`Plan`]
//! says what exists and what will happen, a [`World`] plays it, and a judge compares every token with what the policy in
//! force must give. See docs/testing.md. Deliberately absent: sockets, threads, clocks, and any number that was measured.

mod cloud_host;
mod edge_host;
mod judge;
mod oracle;
mod plan;
mod profile;
mod random;
mod rogue;
mod stream;
mod uploads;
mod world;

pub use judge::Answer;
pub use oracle::{Oracle, Reference};
pub use plan::{CloudPlan, EdgePlan, Fault, LinkPlan, Plan, identity, request};
pub use profile::Profile;
pub use random::Random;
pub use world::{Entry, World};
