//! `collm demo`: one prompt, answered by an edge process and a cloud process behind an emulated link, then measured in every
//! mode.
//!
//! Each process has one core and one thread: two engines that share cores wait for each other's threads.

mod comparison;
mod page;
pub(super) mod stage;

use anyhow::Context as _;
use collm_core::{
    confidence::ConfidenceMeasure,
    policy::{Mode, Threshold},
};
use collm_link::LinkSpec;

use self::{
    comparison::Comparison,
    stage::{Cores, Stage},
};
use crate::{
    args::{DemoArgs, ExitsChoice, ExperimentArgs, SplitShapeArgs, values::Auto},
    client::{EdgeClient, Prompt, Question},
    commands::runtime,
    models::{self, Located},
    parts::{self, Cut, Parts},
    report::Report,
    ui::{
        self,
        colour::{FAINT, Painted, STRONG},
        progress::ProgressMode,
    },
};

/// Positions of every context of the demo.
pub(super) const CONTEXT: u32 = 2048;

/// What the demo works with: decided.
pub(super) struct Scene {
    pub(super) model: Located,
    pub(super) parts: Parts,
    pub(super) upload_at: u32,
    /// How the edge part's exits measure their confidence.
    pub(super) confidence: Auto<ConfidenceMeasure>,
    /// What the edge is started with besides.
    pub(super) edge_arguments: Vec<String>,
}

pub(super) fn run(args: &DemoArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let prepared = Scene::prepare(&args.model, args.exits.as_ref(), progress)?;
    let scene = Scene { confidence: args.confidence, ..prepared };
    if let Some(port) = args.page {
        return page::serve(args, port, &scene, progress);
    }
    // The link lives on this runtime; the processes are children of this thread.
    let runtime = runtime()?;
    let spec = LinkSpec { rtt: args.rtt, up: args.bandwidth, down: args.bandwidth, ..LinkSpec::PERFECT };
    let mut stage = Stage::open(&scene, spec, &runtime, progress)?;
    introduce(args, stage.cores)?;
    ui::print::line(format_args!("\n{}\n", Painted(STRONG, &args.prompt)))?;
    let question =
        Question::new(Prompt::Chat { system: None, user: args.prompt.clone() }, Threshold::DEFAULT, args.max_tokens)
            .at(args.threshold);
    let answer = perform(stage.edge(), &question)?;
    ui::print::line(format_args!("\n{}\n", ui::answer::legend(&answer)))?;
    let comparison = Comparison::measure(&mut stage, &question, progress)?;
    ui::print::line(comparison.render(&scene, args, progress)?)?;
    Ok(())
}

impl Scene {
    pub(super) fn prepare(model: &str, exits: Option<&ExitsChoice>, progress: ProgressMode) -> anyhow::Result<Self> {
        let model = models::locate(model, progress)?;
        let cut = Cut::settle(&SplitShapeArgs::of_exits(exits), &model, progress)?;
        let parts = parts::ensure(&model, &cut, progress)?;
        Ok(Self::new(model, parts, cut.upload_at))
    }

    /// With these parts of the model.
    pub(super) fn new(model: Located, parts: Parts, upload_at: u32) -> Self {
        Self { model, parts, upload_at, confidence: Auto::Auto, edge_arguments: Vec::new() }
    }

    /// What its edge is started with: these arguments, and what was asked for besides.
    pub(super) fn with_edge_arguments<'a>(&'a self, own: &[&'a str]) -> Vec<&'a str> {
        own.iter().copied().chain(self.edge_arguments.iter().map(String::as_str)).collect()
    }

    /// For an experiment.
    pub(super) fn of_experiment(args: &ExperimentArgs, progress: ProgressMode) -> anyhow::Result<Self> {
        let edge_arguments = args.edge_args.split_whitespace().map(str::to_owned).collect();
        Ok(Self { edge_arguments, ..Self::prepare(&args.model, args.exits.as_ref(), progress)? })
    }
}

fn introduce(args: &DemoArgs, cores: Cores) -> anyhow::Result<()> {
    let link = format!("{} round trip, {} each way", ui::time(args.rtt), args.bandwidth);
    let line = format!("edge on core {}, cloud on core {}, link with {link}", cores.edge, cores.cloud);
    Ok(ui::print::line(Painted(FAINT, line))?)
}

/// The answer everybody came for, as it is written.
fn perform(edge: &EdgeClient, question: &Question) -> anyhow::Result<Report> {
    let answer = edge.ask(&question.clone().in_mode(Mode::Collaborative), &mut ui::answer::show)?;
    ui::print::line("")?;
    serde_json::from_value(answer).context("the edge's report cannot be read")
}
