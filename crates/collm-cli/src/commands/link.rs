//! `collm link`: an emulated link as a process of its own.

use std::time::Duration;

use anyhow::Context as _;
use collm_link::Link;

use crate::{
    args::LinkArgs,
    commands::{interrupted, runtime},
    failure::usage,
    process::Ready,
    ui,
};

/// How long connections may take to end by themselves after ctrl-c.
const GRACE: Duration = Duration::from_millis(200);

pub(super) fn run(args: &LinkArgs) -> anyhow::Result<()> {
    runtime()?.block_on(serve(args))
}

async fn serve(args: &LinkArgs) -> anyhow::Result<()> {
    let spec = args.spec().validated().or_else(|error| usage(error.to_string()))?;
    let link = Link::start(&args.listen, &args.to, spec)
        .await
        .with_context(|| format!("cannot listen on {}; choose another --listen", args.listen))?;
    Ready { listening: link.local_addr(), metrics: None }.announce()?;
    interrupted().await;
    let passed = link.control().counters();
    link.shutdown(GRACE).await;
    let (up, down) = (ui::size(passed.up_bytes), ui::size(passed.down_bytes));
    anstream::eprintln!("{} connections, {up} up, {down} down", passed.connections);
    Ok(())
}
