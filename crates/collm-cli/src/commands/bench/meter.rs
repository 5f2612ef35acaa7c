//! How long a cloud's engine has computed, by its own count: what was computed after an answer's last ask is in it, which no answer
//! tells.

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use ureq::Agent;

use crate::process::Server;

/// What the cloud counts, as it is written for Prometheus.
const ENGINE_SECONDS: &str = "collm_batch_seconds_sum{role=\"cloud\"} ";

/// How long an engine has to be idle until it is believed to have ended.
const IDLE: Duration = Duration::from_millis(20);

const PATIENCE: Duration = Duration::from_secs(30);

/// Of one cloud, which was started with `--metrics`.
pub(super) struct Meter {
    agent: Agent,
    url: String,
}

impl Meter {
    pub(super) fn of(cloud: &Server) -> anyhow::Result<Self> {
        Ok(Self::at(cloud.metrics().context("the cloud process was started without --metrics")?))
    }

    fn at(place: SocketAddr) -> Self {
        Self { agent: Agent::new_with_defaults(), url: format!("http://{place}/metrics") }
    }

    /// What the engine computes for this work, in ms. Frames may come for `on_the_way` after it.
    pub(super) fn over<T>(
        &self,
        on_the_way: Duration,
        work: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, f64)> {
        let before = self.read(Duration::ZERO)?;
        let done = work()?;
        let computed = self.read(on_the_way)?.saturating_sub(before);
        Ok((done, computed.as_secs_f64() * 1e3))
    }

    /// Engine time since the cloud was started, once it has been idle for a moment.
    fn read(&self, on_the_way: Duration) -> anyhow::Result<Duration> {
        let began = Instant::now();
        thread::sleep(on_the_way);
        let mut last = self.read_now()?;
        loop {
            thread::sleep(IDLE);
            let now = self.read_now()?;
            if now == last {
                return Ok(now);
            }
            ensure!(began.elapsed() < PATIENCE, "the cloud computes on although nobody asks it");
            last = now;
        }
    }

    fn read_now(&self) -> anyhow::Result<Duration> {
        let mut told = self.agent.get(&self.url).call().with_context(|| format!("cannot read {}", self.url))?;
        engine_time(&told.body_mut().read_to_string()?)
    }
}

/// Nothing was computed where nothing is told.
fn engine_time(told: &str) -> anyhow::Result<Duration> {
    match told.lines().find_map(|line| line.strip_prefix(ENGINE_SECONDS)) {
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds.trim().parse()?)?),
        None => Ok(Duration::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clouds_own_count_is_read() {
        let told = "# TYPE collm_batch_seconds histogram\ncollm_batch_seconds_sum{role=\"edge\"} 7\n\
                    collm_batch_seconds_sum{role=\"cloud\"} 1.25\ncollm_batch_seconds_count{role=\"cloud\"} 3\n";
        assert_eq!(engine_time(told).ok(), Some(Duration::from_millis(1250)));
        assert_eq!(engine_time("").ok(), Some(Duration::ZERO));
        assert!(engine_time(&told.replace("1.25", "many")).is_err());
    }
}
