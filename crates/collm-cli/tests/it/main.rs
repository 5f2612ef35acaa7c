//! The program as people meet it: real processes, real weights, real sockets on loopback.
//!
//! One test binary, since each would link the engine anew. Deliberately absent: what a library's own tests show.

mod access;
mod answers;
mod bad_inputs;
mod chat;
mod demo;
mod encryption;
mod eval;
mod exits;
mod experiments;
mod harness;
mod help;
mod laws;
mod linked;
mod memory;
mod outputs;
mod reference;
mod restarts;
mod running;
mod settings;
mod steering;
mod stopping;
#[cfg(unix)]
mod terminal;
mod transcript;
mod tune;
#[cfg(target_os = "linux")]
mod two_hosts;
mod words;
