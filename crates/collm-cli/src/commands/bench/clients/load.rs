//! Clients that ask again and again for a while, all at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use collm_node::load::{Replayer, Trace};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};

use super::{super::meter::Meter, servers};
use crate::{
    args::{BenchClientsArgs, values},
    commands::demo::{Scene, stage::Cores},
    process::{self, Server},
};

/// What so many clients got in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Level {
    pub(super) way: String,
    pub(super) clients: u32,
    /// How long they asked; answers under way then were made to their end.
    pub(super) duration_ms: f64,
    /// Engine time in the cloud, by its own count.
    pub(super) cloud_compute_ms: f64,
    pub(super) answers: Vec<AnswerRow>,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AnswerRow {
    pub(super) client: u32,
    pub(super) prompt: usize,
    /// Since all clients began.
    pub(super) began_ms: f64,
    /// Of every token, since the answer began.
    pub(super) token_ms: Vec<f64>,
}

/// The cloud, and where its clients run.
pub(super) struct Load {
    cloud: Server,
    meter: Meter,
    runtime: Runtime,
    duration: Duration,
}

impl Load {
    /// Starts the cloud. From here on this process stays off its core.
    pub(super) fn start(scene: &Scene, args: &BenchClientsArgs) -> anyhow::Result<Self> {
        let sessions = args.clients().last().copied().unwrap_or(1);
        let cloud = servers::cloud(scene, sessions)?;
        process::pin(&values::Cores(vec![Cores::choose().edge]))?;
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Ok(Self {
            meter: Meter::of(&cloud)?,
            cloud,
            runtime: runtime.context("cannot start threads")?,
            duration: args.duration(),
        })
    }

    /// Lets so many clients replay the traces, each beginning with another.
    pub(super) fn level(&self, way: &str, clients: u32, traces: &[Trace]) -> anyhow::Result<Level> {
        let url = format!("http://{}", self.cloud.address());
        let traces: Arc<[Trace]> = traces.into();
        let asked = async {
            let began = Instant::now();
            let mut asking = JoinSet::new();
            for client in 0..clients {
                let replayer = Replayer::new(&url)?;
                asking.spawn(ask(client, replayer, Arc::clone(&traces), began, self.duration));
            }
            let mut answers = Vec::new();
            while let Some(made) = asking.join_next().await {
                answers
                    .extend(made.context("a client panicked")?.with_context(|| format!("{clients} clients, {way}"))?);
            }
            anyhow::Ok(answers)
        };
        let (answers, cloud_compute_ms) = self.meter.over(Duration::ZERO, || self.runtime.block_on(asked))?;
        Ok(Level {
            way: way.to_owned(),
            clients,
            duration_ms: self.duration.as_secs_f64() * 1e3,
            cloud_compute_ms,
            answers,
        })
    }
}

/// One client: one answer after the other, until the time is over.
async fn ask(
    client: u32,
    replayer: Replayer,
    traces: Arc<[Trace]>,
    began: Instant,
    duration: Duration,
) -> anyhow::Result<Vec<AnswerRow>> {
    let mut answers = Vec::new();
    let mut prompt = client as usize % traces.len();
    while began.elapsed() < duration {
        let at = began.elapsed();
        let tokens = replayer.replay(&traces[prompt]).await?;
        answers.push(AnswerRow::new(client, prompt, at, &tokens));
        prompt = (prompt + 1) % traces.len();
    }
    Ok(answers)
}

impl AnswerRow {
    fn new(client: u32, prompt: usize, began: Duration, tokens: &[Duration]) -> Self {
        // Tenths of a millisecond are finer than the clock that wakes clients.
        let ms = |span: &Duration| (span.as_secs_f64() * 1e4).round() / 10.0;
        Self { client, prompt, began_ms: ms(&began), token_ms: tokens.iter().map(ms).collect() }
    }
}
