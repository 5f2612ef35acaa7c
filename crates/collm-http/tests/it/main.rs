//! The API over an edge with a scripted engine.

mod edge;
mod generate;
mod openai;
mod page;
mod serving;
