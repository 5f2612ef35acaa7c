//! What the pure cores of edge and cloud take for a token: sessions, batches, uploads, asks, answers, rollbacks.
//!
//! Both talk to each other without a network, and what an engine would say is scripted by position, so nothing but their own work is
//! timed. Deliberately absent: tensors, and the bytes of frames.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use collm_core::{
    blocks::Blocks,
    cloud::{self, Ahead, Cloud, CloudConfig, PeerId},
    edge::{
        self, Ablation, BreakerConfig, Edge, EdgeConfig, Event, JobOutcome, Request, SecondStage, Stage, Stats,
        StreamId,
    },
    frame::{Identity, ToCloud},
    ids::{Position, SessionId, TokenId},
    policy::{Mode, RunAhead, Threshold},
    sampling::{Choice, Sampling, Scored, Scoring},
    states::{Encoding, StateBlock},
    time::Time,
    upload::UploadSettings,
};
use serde::{Deserialize, Serialize};

const WIDTH: u32 = 576;
const VOCABULARY: u32 = 49_152;
const PROMPT: u32 = 64;

/// A stage of the edge, and a batch of the cloud, in the time of the script.
const STAGE: Duration = Duration::from_millis(5);
const CLOUD_BATCH: Duration = Duration::from_millis(12);

/// What one answer took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BookkeepingRow {
    /// How it was made.
    pub way: String,
    /// Of the answer.
    pub tokens: u32,
    /// Asks sent.
    pub asks: u32,
    /// Wrong guesses that were asked about.
    pub rollbacks: u32,
    /// Time in the edge's core, for the whole answer.
    pub edge_us: f64,
    /// Time in the cloud's core, for the whole answer.
    pub cloud_us: f64,
}

/// Makes an answer of so many tokens in every way.
///
/// # Errors
/// When the cores do not make the answer, which is a fault of theirs or of the script.
pub fn bookkeeping(tokens: u32) -> anyhow::Result<Vec<BookkeepingRow>> {
    let ways = [
        ("standalone", Mode::Standalone, RunAhead::Never),
        ("collaborative, standing still", Mode::Collaborative, RunAhead::Never),
        ("collaborative", Mode::Collaborative, RunAhead::Always(8)),
        ("exact", Mode::Exact, RunAhead::Always(8)),
        ("cloud-only", Mode::Cloud, RunAhead::Never),
    ];
    ways.into_iter().map(|(way, mode, run_ahead)| Script::new(tokens).answer(way, mode, run_ahead)).collect()
}

/// Two cores, and what is under way between them and their engines.
struct Script {
    edge: Edge,
    cloud: Cloud,
    now: Time,
    tokens: u32,
    edge_batch: Option<(Time, edge::Batch)>,
    cloud_batch: Option<(Time, cloud::Batch)>,
    stream: Option<StreamId>,
    ended: Option<Result<Stats, String>>,
    edge_took: Duration,
    cloud_took: Duration,
}

/// Runs, and adds the time it took.
fn timed<T>(took: &mut Duration, run: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = run();
    *took += began.elapsed();
    result
}

impl Script {
    fn new(tokens: u32) -> Self {
        let context = PROMPT + tokens + 1;
        Self {
            edge: Edge::new(edge_config(context)),
            cloud: Cloud::new(cloud_config(context)),
            now: Time::default(),
            tokens,
            edge_batch: None,
            cloud_batch: None,
            stream: None,
            ended: None,
            edge_took: Duration::ZERO,
            cloud_took: Duration::ZERO,
        }
    }

    fn answer(mut self, way: &str, mode: Mode, run_ahead: RunAhead) -> anyhow::Result<BookkeepingRow> {
        let request = Request {
            session: SessionId(1),
            prompt: (0..PROMPT).map(TokenId).collect(),
            mode,
            thresholds: Threshold::DEFAULT.into(),
            budget: None,
            run_ahead,
            without: Ablation::Nothing,
            sampling: Sampling::GREEDY,
            tokens_max: self.tokens,
            score_prompt: false,
            stop: vec![],
        };
        timed(&mut self.edge_took, || self.edge.submit(self.now, request))?;
        self.settle();
        while self.ended.is_none() {
            ensure!(self.step(), "{way}: the answer stands still");
        }
        let stats = match self.ended {
            Some(Ok(stats)) => stats,
            Some(Err(why)) => bail!("{way}: {why}"),
            None => unreachable!("the loop ends with an end"),
        };
        ensure!(stats.answer_tokens() == self.tokens && stats.degraded_tokens == 0, "{way}: {stats:?}");
        Ok(BookkeepingRow {
            way: way.to_owned(),
            tokens: stats.answer_tokens(),
            asks: stats.asks,
            rollbacks: stats.rollbacks,
            edge_us: self.edge_took.as_secs_f64() * 1e6,
            cloud_us: self.cloud_took.as_secs_f64() * 1e6,
        })
    }

    /// Lets the batch be done whose moment comes first. `false` if none is under way.
    fn step(&mut self) -> bool {
        let due = |at: Option<Time>| at.unwrap_or(Time(Duration::MAX));
        let (edge, cloud) = (self.edge_batch.as_ref().map(|it| it.0), self.cloud_batch.as_ref().map(|it| it.0));
        let edge_first = due(edge) <= due(cloud);
        if let Some((at, batch)) = self.edge_batch.take_if(|_| edge_first) {
            self.now = at;
            let outcome = edge_outcome(&batch);
            timed(&mut self.edge_took, || self.edge.handle_compute(self.now, outcome));
        } else if let Some((at, batch)) = self.cloud_batch.take() {
            self.now = at;
            let outcome = cloud_outcome(&batch);
            timed(&mut self.cloud_took, || self.cloud.handle_compute(self.now, outcome));
        } else {
            return false;
        }
        self.settle();
        true
    }

    /// Does what both cores ask for until they ask for nothing more.
    fn settle(&mut self) {
        loop {
            if let Some(output) = timed(&mut self.edge_took, || self.edge.poll_output()) {
                self.perform_edge(output);
            } else if let Some(output) = timed(&mut self.cloud_took, || self.cloud.poll_output()) {
                self.perform_cloud(output);
            } else {
                return;
            }
        }
    }

    fn perform_edge(&mut self, output: edge::Output) {
        match output {
            edge::Output::Connect(stream, open) => {
                self.stream = Some(stream);
                self.tell_cloud(stream, ToCloud::Open(open));
            }
            edge::Output::Transmit(stream, frame) => self.tell_cloud(stream, frame),
            edge::Output::Disconnect(stream) => {
                let peer = peer(stream);
                timed(&mut self.cloud_took, || self.cloud.handle_link_down(self.now, peer));
            }
            edge::Output::Compute(batch) => self.edge_batch = Some((self.now + STAGE, batch)),
            // An engine that cannot end a call.
            edge::Output::Interrupt => {}
            edge::Output::Truncate(..) | edge::Output::Free(_) => {}
            edge::Output::Event(_, Event::Finished(_, stats)) => self.ended = Some(Ok(*stats)),
            edge::Output::Event(_, Event::Failed(why)) => self.ended = Some(Err(why)),
            edge::Output::Event(..) => {}
        }
    }

    fn tell_cloud(&mut self, stream: StreamId, frame: ToCloud) {
        timed(&mut self.cloud_took, || self.cloud.handle_frame(self.now, peer(stream), frame));
    }

    fn perform_cloud(&mut self, output: cloud::Output) {
        match output {
            cloud::Output::Transmit(_, frame) => {
                let Some(stream) = self.stream else { return };
                timed(&mut self.edge_took, || self.edge.handle_frame(self.now, stream, frame));
            }
            cloud::Output::Disconnect(_) => self.stream = None,
            cloud::Output::Interrupt => {}
            cloud::Output::Compute(batch) => self.cloud_batch = Some((self.now + CLOUD_BATCH, batch)),
        }
    }
}

fn peer(stream: StreamId) -> PeerId {
    PeerId(stream.attempt.into())
}

fn edge_outcome(batch: &edge::Batch) -> edge::BatchOutcome {
    let outcome = |job: &edge::Job| {
        let states = match job.stage {
            Stage::First { upload: Some(encoding), .. } => Some(states(encoding, job.rows())),
            _ => None,
        };
        Ok(JobOutcome { states, scored: job.scores.iter().map(guess).collect() })
    };
    edge::BatchOutcome { jobs: batch.jobs.iter().map(|(_, job)| outcome(job)).collect(), compute: STAGE }
}

fn cloud_outcome(batch: &cloud::Batch) -> cloud::BatchOutcome {
    let scored = batch.parts.iter().map(|part| Ok(part.scores.iter().map(truth).collect())).collect();
    cloud::BatchOutcome::Done { scored, compute: CLOUD_BATCH }
}

fn states(encoding: Encoding, rows: u32) -> Result<StateBlock, String> {
    let bytes = vec![0; encoding.row_bytes(WIDTH) * rows as usize];
    StateBlock::parse(encoding, WIDTH, bytes.into()).map_err(|error| error.to_string())
}

fn scored(token: u32, confidence: f32) -> Scored {
    Scored { choice: Choice { token: TokenId(token), confidence }, log_probs: None }
}

/// What the whole model says after a position.
fn truth(scoring: &Scoring) -> Scored {
    scored(scoring.position.0 % VOCABULARY, 0.9)
}

/// What the edge says there: half of the time surely, and one time in nine something else.
fn guess(scoring: &Scoring) -> Scored {
    let Position(at) = scoring.position;
    let wrong = u32::from(at % 9 == 4);
    scored((at + wrong) % VOCABULARY, if at % 10 < 5 { 0.95 } else { 0.5 })
}

fn identity() -> Identity {
    let id = |bytes: usize| "00".repeat(bytes);
    Identity { pair: id(8), source: id(32), upload_at: 10, width: WIDTH, vocabulary: VOCABULARY }
}

fn edge_config(context: u32) -> EdgeConfig {
    EdgeConfig {
        identity: identity(),
        layers: 30,
        second: SecondStage::Tail,
        has_exit1: false,
        has_cloud: true,
        context,
        slots: 1,
        waiting_max: 1,
        job_rows_max: 64,
        first_job_rows: 64,
        blocks: Blocks::new(64, 0),
        keep: Duration::ZERO,
        upload_rows_max: 512,
        upload: UploadSettings::PAPER,
        ask_deadline: Duration::from_secs(60),
        breaker: BreakerConfig::default(),
    }
}

fn cloud_config(context: u32) -> CloudConfig {
    CloudConfig {
        identity: identity(),
        holds_whole: true,
        context,
        slots: 1,
        batch_rows_max: 256,
        blocks: Blocks::new(64, 0),
        ahead: Ahead::Everything,
        contexts_max: 1,
        states_bytes_max: 1 << 30,
        encodings: Encoding::ALL.into(),
        idle_max: Duration::from_secs(600),
        hold: Duration::from_millis(500),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_makes_the_answer_with_what_belongs_to_it() {
        let rows = bookkeeping(200).expect("answers");
        let of = |way: &str| rows.iter().find(|row| row.way == way).expect("a way");
        assert!(rows.iter().all(|row| row.tokens == 200 && row.edge_us > 0.0), "{rows:?}");
        assert_eq!((of("standalone").asks, of("standalone").cloud_us > 0.0), (0, true), "it is polled");
        assert_eq!(of("cloud-only").asks, 1);
        let still = of("collaborative, standing still");
        // The unsure half, and of it the wrong ninth.
        assert_eq!((still.asks, still.rollbacks > 5 && still.rollbacks < 20), (100, true), "{still:?}");
        assert!(of("exact").asks >= 200 && of("exact").rollbacks > still.rollbacks, "{rows:?}");
        assert!(of("collaborative").asks >= 100, "{rows:?}");
    }
}
