//! `collm edge`: serves answers made by an edge part and its cloud, or by a whole model.

use std::time::Duration;

use crate::{
    args::EdgeArgs,
    commands::{interrupted, runtime},
    edge_server::{EdgePlaces, EdgeServer},
    failure::usage,
    models,
    nodes::{EdgeSetup, EngineSettings},
    process::Ready,
    ui::progress::ProgressMode,
};

/// How long answers under way may take to end after ctrl-c.
const DRAIN: Duration = Duration::from_secs(10);

pub(super) fn run(args: EdgeArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let setup = settle(&args, progress)?;
    let places =
        EdgePlaces { listen: args.listen, allow_remote: args.allow_remote, access: args.access, cloud: args.cloud };
    runtime()?.block_on(serve(setup, places, progress))
}

fn settle(args: &EdgeArgs, progress: ProgressMode) -> anyhow::Result<EdgeSetup> {
    let path = match (&args.part, &args.model) {
        (Some(part), _) => part.clone(),
        (None, Some(model)) => models::locate(model, progress)?.path,
        (None, None) => return usage("give --part FILE or --model REF"),
    };
    let file = models::open(&path)?;
    let settings = EngineSettings::settle(&args.engine, &file)?;
    let setup = EdgeSetup::new(file, &settings, args.slots, args.deadline)?;
    if args.cloud.is_some() { setup.settle_upload(&args.upload, progress) } else { Ok(setup) }
}

async fn serve(setup: EdgeSetup, places: EdgePlaces, progress: ProgressMode) -> anyhow::Result<()> {
    let server = EdgeServer::start(setup, places, progress).await?;
    Ready { listening: server.address()? }.announce()?;
    let (told, stopping) = tokio::sync::oneshot::channel();
    let shutdown = async {
        interrupted().await;
        // Nobody listens any more if serving has failed meanwhile.
        let _ = told.send(());
    };
    tokio::select! {
        served = server.serve(shutdown) => served,
        () = drained(stopping) => Ok(()),
    }
}

/// Resolves when the answers under way have had their time.
async fn drained(stopping: tokio::sync::oneshot::Receiver<()>) {
    // An error means that the shutdown is not awaited any more.
    let _ = stopping.await;
    tokio::time::sleep(DRAIN).await;
}
