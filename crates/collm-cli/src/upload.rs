//! How an edge uploads hidden states: as people say, or in half precision where the model's states leave room for it.
//!
//! Some models have a few states that are far larger than all others, mostly at the first position. In f16 they would become
//! infinite, and the cloud could not go on from them.

use std::{panic::resume_unwind, thread};

use anyhow::Context as _;
use collm_core::{
    edge::SecondStage,
    states::Encoding,
    upload::{FeedChoice, UploadSettings, UploadStart},
};
use collm_engine::{Engine as _, Input, Position, Row, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, Markup, Vocabulary};
use tracing::info;

use crate::{
    args::{UploadArgs, UploadEncoding, UploadFeed, UploadWhen},
    nodes::EdgeSetup,
    ui::progress::ProgressMode,
};

/// What the model reads to show how large its states become: ordinary text, with some of the signs that often stand out.
const PROBE: &str =
    "Hello! Here is some text, with a list:\n\n1. words and 12 numbers\n2. \"quotes\" and signs.\n\nIs that all?";

/// A quarter of f16's largest number: other texts may go further than the probe.
const LARGEST_FOR_F16: f32 = 65_504.0 / 4.0;

impl EdgeSetup {
    /// Decides how this edge uploads. Nothing is decided for a whole model, which uploads nothing.
    pub(crate) fn settle_upload(mut self, args: &UploadArgs, progress: ProgressMode) -> anyhow::Result<Self> {
        if self.config.second == SecondStage::Whole {
            return Ok(self);
        }
        let encoding = match args.upload {
            UploadEncoding::Auto => self.probe(progress).context("cannot tell how large the model's states are")?,
            UploadEncoding::F32 => Encoding::F32,
            UploadEncoding::F16 => Encoding::F16,
            UploadEncoding::Int8 => Encoding::Int8,
            UploadEncoding::Rotated32 => Encoding::Rotated32,
            UploadEncoding::Rotated22 => Encoding::Rotated22,
        };
        let start = match args.upload_when {
            UploadWhen::Eager => UploadStart::Eager,
            UploadWhen::Lazy => UploadStart::Lazy,
        };
        let (collaborative, exact) = (args.feed.into(), args.exact_upload.into());
        self.config.upload = UploadSettings { encoding, collaborative, exact, start, private: args.private };
        Ok(self)
    }

    fn probe(&mut self, progress: ProgressMode) -> anyhow::Result<Encoding> {
        let step = progress.step("looking at the model's states");
        let mut tokens = Vocabulary::load(&self.engine.file)?.tokenize_prompt(PROBE, Markup::Characters)?;
        tokens.truncate(self.config.context as usize);
        let engine = self.engine.loaded()?;
        // Engines bind the thread that computes to its core, and threads that are started later inherit that.
        let looked = thread::scope(|scope| scope.spawn(|| largest_state(engine, &tokens)).join());
        let largest = looked.unwrap_or_else(|panic| resume_unwind(panic))?;
        let encoding = encoding_for(largest);
        info!(?encoding, largest, "states are uploaded");
        step.done("took");
        Ok(encoding)
    }
}

impl From<UploadFeed> for FeedChoice {
    fn from(feed: UploadFeed) -> Self {
        match feed {
            UploadFeed::States => Self::States,
            UploadFeed::Tokens => Self::Tokens,
            UploadFeed::Auto => Self::Auto,
        }
    }
}

fn encoding_for(largest: f32) -> Encoding {
    if largest <= LARGEST_FOR_F16 { Encoding::F16 } else { Encoding::F32 }
}

/// The largest number in the states that these tokens would upload, without its sign. Leaves the engine as it was.
fn largest_state(engine: &mut GgmlEngine, tokens: &[TokenId]) -> anyhow::Result<f32> {
    let slot = SlotId(0);
    let rows: Vec<Row> = (0..).zip(tokens).map(|(index, _)| Row { slot, position: Position(index) }).collect();
    let mut states = Vec::new();
    let run = engine.run(Stack::Lower, &rows, Input::Tokens(tokens), &mut states);
    engine.truncate(slot, 0);
    run?;
    Ok(states.iter().fold(0.0, |largest, value| largest.max(value.abs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_for_states_with_room_to_its_end() {
        assert_eq!(encoding_for(400.0), Encoding::F16);
        // Gemma 3 270M, at the first position.
        assert_eq!(encoding_for(98_407.0), Encoding::F32);
        assert_eq!(encoding_for(30_000.0), Encoding::F32);
    }
}
