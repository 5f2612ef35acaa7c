//! `collm cloud`: serves a cloud part, or a whole model, to edges.

use std::future::pending;

use anyhow::Context as _;
use collm_http::watch::{self, Phase};
use collm_node::{CloudNode, CloudOptions, access::Access};
use tokio::{net::TcpListener, sync::watch as latest};

use crate::{
    args::{CloudArgs, SplitShapeArgs},
    commands::{interrupted, runtime},
    counting,
    failure::usage,
    models,
    nodes::{CloudSetup, EngineSettings},
    parts::Cut,
    process::Ready,
    running::Running,
    ui::progress::ProgressMode,
};

pub(super) fn run(args: &CloudArgs, progress: ProgressMode) -> anyhow::Result<()> {
    // What is wrong with files of keys is said before minutes are spent on weights.
    let access = args.access.settle()?.access;
    let setup = settle(args, progress)?;
    runtime()?.block_on(serve(args, access, setup, progress))
}

fn settle(args: &CloudArgs, progress: ProgressMode) -> anyhow::Result<CloudSetup> {
    match (&args.part, &args.model) {
        (Some(part), _) => {
            let file = models::open(part)?;
            let settings = EngineSettings::settle(&args.engine, &file)?;
            CloudSetup::of_part(file, &settings, &args.memory)
        }
        (None, Some(model)) => {
            let model = models::locate(model, progress)?;
            let file = models::open(&model.path)?;
            let upload_at = match args.upload_at {
                Some(upload_at) => upload_at,
                None => Cut::settle(&SplitShapeArgs::default(), &model, progress)?.upload_at,
            };
            let settings = EngineSettings::settle(&args.engine, &file)?;
            CloudSetup::of_whole(file, upload_at, &settings, &args.memory, progress)
        }
        (None, None) => usage("give --part FILE or --model REF"),
    }
}

async fn serve(args: &CloudArgs, access: Access, setup: CloudSetup, progress: ProgressMode) -> anyhow::Result<()> {
    let listener = listen(&args.listen, "--listen").await?;
    let (phase, phases) = latest::channel(Phase::Loading);
    let watchers = match &args.metrics {
        Some(place) => Some(listen(place, "--metrics").await?),
        None => None,
    };
    let ready = Ready {
        listening: listener.local_addr()?,
        metrics: watchers.as_ref().map(TcpListener::local_addr).transpose()?,
    };
    // Who may compute in this cloud is not who may see its numbers: its keys are not asked for there.
    let in_the_open = Access { allow_remote: access.allow_remote, ..Access::default() };
    let watch =
        watchers.map(|listener| anyhow::Ok((listener, watch::router(phases, counting::start()?)))).transpose()?;
    let watched = async {
        match watch {
            Some((listener, router)) => collm_http::serve(listener, router, in_the_open, pending()).await,
            None => pending().await,
        }
    };
    let options = CloudOptions { access, drain_deadline: args.stopping.drain, ..CloudOptions::new(setup.config) };
    let source = setup.engine;
    let scheme = if options.access.tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", ready.listening);
    let _note = Running::here("cloud", &models::public_name(&source.file), url, None).note();
    let step = progress.step(format!("loading {}", source.file.path().display()));
    let loaded = phase.clone();
    // The address is told once the engine is there, so that whoever waits for it can ask at once.
    let load_and_tell = move || {
        let engine = source.load()?;
        step.done("took");
        loaded.send_replace(Phase::Ready);
        ready.announce()?;
        anyhow::Ok(engine)
    };
    let stopping = async {
        interrupted().await;
        phase.send_replace(Phase::Stopping);
    };
    tokio::select! {
        served = CloudNode::serve(listener, options, load_and_tell, stopping) => Ok(served?),
        failed = watched => Ok(failed?),
    }
}

async fn listen(place: &str, option: &str) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(place).await;
    bound.with_context(|| format!("cannot listen on {place}; choose another {option}"))
}
