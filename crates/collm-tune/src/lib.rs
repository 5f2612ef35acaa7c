//! What a model can be fitted by, on the machine that runs it: text that it wrote itself, what it would say next everywhere
//! in it, and what each of its steps costs here.
//!
//! Top-down: [`text`] has the model ([`teacher`]) write conversations into a [`corpus`]; [`shortlist`] and
//! [`gate`] are fitted to what an exit sees in it, and [`first_exit`] tells what leaving before the tail is worth.
//! Deliberately absent: gradients (`collm-train`), files of fitted exits (`collm-model`), printing.

pub mod candidates;
pub mod corpus;
pub mod cost;
pub mod dialogue;
mod error;
pub mod exits;
pub mod first_exit;
pub mod frequencies;
pub mod gate;
pub mod heal;
pub mod observe;
pub mod pieces;
pub mod reader;
pub mod search;
pub mod shortlist;
pub mod states;
pub mod teacher;
pub mod text;
pub mod watcher;

pub use corpus::{Corpus, Sequence, Share};
pub use error::TuneError;
pub use states::States;
pub use teacher::{Teacher, TeacherOptions};
