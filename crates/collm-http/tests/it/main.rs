//! The API over an edge with a scripted engine.

mod async_openai;
mod edge;
mod generate;
mod leaving;
mod link;
mod openai;
mod page;
mod serving;
