//! `collm edge`: serves answers made by an edge part and its cloud, or by a whole model.

use std::time::Duration;

use tokio::{sync::oneshot, time::sleep};
use tracing::{info, warn};

use crate::{
    args::EdgeArgs,
    commands::{interrupted, runtime},
    edge_server::{EdgePlaces, EdgeServer},
    exits::ExitSettings,
    failure::usage,
    models,
    nodes::{EdgeSetup, EngineSettings},
    process::Ready,
    ui::progress::ProgressMode,
};

pub(super) fn run(args: EdgeArgs, progress: ProgressMode) -> anyhow::Result<()> {
    // What is wrong with files of keys is said before minutes are spent on weights.
    let access = args.access.settle()?;
    let cloud = args.cloud.as_deref().map(|url| args.cloud_access.endpoint(url)).transpose()?;
    let setup = settle(&args, progress)?;
    let places =
        EdgePlaces { listen: args.listen, access, origins: args.origins, cloud, emulated_link: args.emulate_link };
    runtime()?.block_on(serve(setup, places, args.stopping.drain, progress))
}

fn settle(args: &EdgeArgs, progress: ProgressMode) -> anyhow::Result<EdgeSetup> {
    let path = match (&args.part, &args.model) {
        (Some(part), _) => part.clone(),
        (None, Some(model)) => models::locate(model, progress)?.path,
        (None, None) => return usage("give --part FILE or --model REF"),
    };
    let file = models::open(&path)?;
    let settings = EngineSettings::settle(&args.engine, &file)?;
    let exits = ExitSettings::settle(&file, args.confidence, args.threshold)?;
    let mut setup = EdgeSetup::new(file, exits, &settings, args.slots, args.deadline)?;
    setup.config.keep = args.keep;
    (setup.budget, setup.threshold_min) = (args.budget, args.threshold_min);
    if args.cloud.is_some() { setup.settle_upload(&args.upload, progress) } else { Ok(setup) }
}

async fn serve(setup: EdgeSetup, places: EdgePlaces, drain: Duration, progress: ProgressMode) -> anyhow::Result<()> {
    let server = EdgeServer::start(setup, places, progress).await?;
    Ready { listening: server.address()?, metrics: None }.announce()?;
    let _note = server.running()?.note();
    let (told, stopping) = oneshot::channel();
    let shutdown = async {
        interrupted().await;
        // Nobody listens any more if serving has failed meanwhile.
        let _ = told.send(());
    };
    let edge = server.edge();
    let served = tokio::select! {
        served = server.serve(shutdown) => served,
        () = overdue(stopping, drain) => Ok(()),
    };
    edge.stop().await;
    served
}

/// Resolves when the answers under way have had their time.
async fn overdue(stopping: oneshot::Receiver<()>, drain: Duration) {
    // An error means that the shutdown is not awaited any more.
    let _ = stopping.await;
    info!("draining: no new answers");
    sleep(drain).await;
    warn!("answers under way took longer than {drain:?}; they end here");
}
