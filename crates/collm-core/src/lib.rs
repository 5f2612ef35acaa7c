//! The collaboration, as pure state machines.
//!
//! Exits, uploads, asks, fallback, contexts and batch plans, without a clock, a socket, a thread or a tensor. Both roles
//! take inputs with the time they happened at and *ask* for work through outputs; network and model are slow, fallible
//! devices outside. See ARCHITECTURE.md for the invariants.

pub mod blocks;
pub mod budget;
pub mod cloud;
pub mod confidence;
pub mod distribution;
pub mod edge;
pub mod frame;
pub mod gate;
pub mod grammar;
pub mod ids;
pub mod limits;
pub mod policy;
pub mod sampling;
pub mod states;
pub mod time;
pub mod upload;
