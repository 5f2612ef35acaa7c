//! `collm run`: one answer, from a running edge or from one that is started here for it.
//!
//! The edge started here serves its API on loopback like any other, so that an answer looks the same whoever makes it.

use std::{io::Read as _, path::PathBuf, time::Instant};

use anyhow::Context as _;
use collm_core::policy::{Mode, Threshold};
use tokio::runtime::Runtime;

use crate::{
    args::{EngineArgs, RunArgs, SplitShapeArgs, WhoArgs},
    client::{EdgeClient, Prompt, Question},
    commands::runtime,
    edge_server::{EdgePlaces, EdgeServer},
    exits::ExitSettings,
    failure::usage,
    models,
    nodes::{EdgeSetup, EngineSettings},
    parts::{self, Cut},
    report::Report,
    ui::{self, progress::ProgressMode},
};

/// The model of those who name none.
const MODEL_DEFAULT: &str = "smollm2-135m";

/// Who answers: decided.
#[derive(Debug)]
pub(super) enum Answerer {
    /// A running edge, in its own mode if none is named.
    Running { url: String, mode: Option<Mode> },
    /// One that is started here.
    Here { file: PathBuf, cloud: Option<String>, mode: Mode },
}

pub(super) fn run(args: RunArgs, progress: ProgressMode, verbose: bool) -> anyhow::Result<()> {
    let sampling = args.sampling.settle().map_err(|error| crate::failure::Usage(error.to_string()))?;
    let answerer = Answerer::settle(&args.who, args.mode, progress)?;
    let mut question = Question::new(prompt(args.prompt, args.system, args.raw)?, Threshold::DEFAULT, args.max_tokens)
        .at(args.threshold)
        .within(args.budget, args.threshold_min)
        .sampled(&sampling)
        .stopped_by(args.stop);
    if let Some(mode) = answerer.mode() {
        question = question.in_mode(mode);
    }
    if args.stall {
        question = question.standing_still();
    }
    // Held until the answer is complete: the edge lives in it.
    let runtime = runtime()?;
    let began = Instant::now();
    let edge = answerer.edge(&runtime, &args.engine, &args.who, progress)?;
    let load = args.who.edge.is_none().then(|| began.elapsed());
    let answer = if args.json { print_json(&edge, &question)? } else { print_text(&edge, &question)? };
    if verbose {
        anstream::eprintln!("{}", ui::numbers::lines(&readable(answer)?, load));
    }
    Ok(())
}

fn print_json(edge: &EdgeClient, question: &Question) -> anyhow::Result<serde_json::Value> {
    let answer = edge.ask(question, &mut |_| Ok(()))?;
    ui::print::line(serde_json::to_string_pretty(&answer)?)?;
    Ok(answer)
}

fn print_text(edge: &EdgeClient, question: &Question) -> anyhow::Result<serde_json::Value> {
    let answer = edge.ask(question, &mut ui::answer::show)?;
    ui::print::line("")?;
    anstream::eprintln!("{}", ui::answer::legend(&readable(answer.clone())?));
    Ok(answer)
}

/// The edge's report, as far as this program looks into it.
pub(super) fn readable(answer: serde_json::Value) -> anyhow::Result<Report> {
    serde_json::from_value(answer).context("the edge's report cannot be read; is it of another version?")
}

fn prompt(argument: String, system: Option<String>, raw: bool) -> anyhow::Result<Prompt> {
    let text = if argument == "-" { read_stdin()? } else { argument };
    Ok(if raw { Prompt::Raw(text) } else { Prompt::Chat { system, user: text } })
}

fn read_stdin() -> anyhow::Result<String> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("cannot read the prompt from stdin")?;
    Ok(text)
}

impl Answerer {
    pub(super) fn settle(who: &WhoArgs, mode: Option<Mode>, progress: ProgressMode) -> anyhow::Result<Self> {
        if let Some(url) = &who.edge {
            return Ok(Self::Running { url: url.clone(), mode });
        }
        let mode = mode.unwrap_or(match (&who.cloud, &who.part) {
            (Some(_), _) => Mode::Collaborative,
            (None, Some(_)) => Mode::Standalone,
            (None, None) => Mode::Whole,
        });
        if mode.uses_cloud() && who.cloud.is_none() {
            return usage(format!(
                "mode {} needs a cloud; start one with `collm cloud` and add --cloud URL",
                mode.name()
            ));
        }
        Ok(Self::Here { file: file(who, mode, progress)?, cloud: who.cloud.clone(), mode })
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        match self {
            Self::Running { mode, .. } => *mode,
            Self::Here { mode, .. } => Some(*mode),
        }
    }

    pub(super) fn edge(
        self,
        runtime: &Runtime,
        engine: &EngineArgs,
        who: &WhoArgs,
        progress: ProgressMode,
    ) -> anyhow::Result<EdgeClient> {
        let (file, cloud) = match self {
            Self::Running { url, .. } => return EdgeClient::connecting(&url, &who.edge_access),
            Self::Here { file, cloud, .. } => (models::open(&file)?, cloud),
        };
        let settings = EngineSettings::settle(engine, &file)?;
        // The threshold goes with the question.
        let exits = ExitSettings::settle(&file, who.confidence, None)?;
        let mut setup = EdgeSetup::new(file, exits, &settings, 1, who.deadline)?;
        if cloud.is_some() {
            setup = setup.settle_upload(&who.upload, progress)?;
        }
        let cloud = cloud.map(|url| who.cloud_access.endpoint(&url)).transpose()?;
        let server = runtime.block_on(EdgeServer::start(setup, EdgePlaces::private(cloud), progress))?;
        let url = format!("http://{}", server.address()?);
        runtime.spawn(server.serve(std::future::pending()));
        Ok(EdgeClient::new(&url))
    }
}

/// The file to load: what was named, or the edge part of the model that was.
fn file(who: &WhoArgs, mode: Mode, progress: ProgressMode) -> anyhow::Result<PathBuf> {
    if let Some(part) = &who.part {
        return Ok(part.clone());
    }
    let model = models::locate(who.model.as_deref().unwrap_or(MODEL_DEFAULT), progress)?;
    if mode == Mode::Whole {
        if who.exits.is_some() {
            return usage("a whole model has no exits; leave out --exits, or choose for example --mode standalone");
        }
        return Ok(model.path);
    }
    let cut = Cut::settle(&SplitShapeArgs::of_exits(who.exits.as_ref()), &model, progress)?;
    Ok(parts::ensure(&model, &cut, progress)?.edge)
}
