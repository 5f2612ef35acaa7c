//! What the experiments on answers share: ways of answering that take turns on the same prompts, one row an answer, and figures that
//! are computed from the rows.
//!
//! `plan` says which answers there are to be, `row` asks for them, `judged` compares them with the whole model's, and `figures` sums
//! them up. What a table or a plot shows of them is each experiment's own.

mod figures;
mod judged;
mod plan;
mod row;
mod timetable;
mod variant;

pub(super) use self::{
    figures::{Figures, figures},
    judged::{Judged, judge},
    plan::Plan,
    row::{Row, measure},
    timetable::Timetable,
    variant::{CLOUD_ONLY, Variant},
};
