//! What exists in a world and what will happen to it. Plain data: written by hand for a scenario, drawn from a seed otherwise.

use std::{ops::RangeInclusive, time::Duration};

use collm_core::{
    blocks::Blocks,
    cloud::{Ahead, CloudConfig},
    edge::{Ablation, BreakerConfig, EdgeConfig, Request, SecondStage},
    frame::Identity,
    ids::{SessionId, TokenId},
    policy::{Mode, RunAhead, Threshold},
    sampling::Sampling,
    states::Encoding,
    time::Time,
    upload::{FeedChoice, UploadSettings},
};
use collm_engine::scripted::{END_OF_TURN, Script, WIDTH};

/// A world before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of everything that the plan leaves open: durations, routes, victims of faults.
    pub seed: u64,
    /// The model that every engine pretends to be.
    pub script: Script,
    /// The edges.
    pub edges: Vec<EdgePlan>,
    /// The clouds. An edge connects to any of them.
    pub clouds: Vec<CloudPlan>,
    /// Every link.
    pub link: LinkPlan,
    /// What goes wrong, and when.
    pub faults: Vec<(Time, Fault)>,
    /// Whether answers must be the reference, token for token and source for source.
    pub exact: bool,
}

/// One edge.
#[derive(Debug, Clone)]
pub struct EdgePlan {
    /// What it is told at start.
    pub config: EdgeConfig,
    /// What it is asked for, and when.
    pub requests: Vec<(Time, Request)>,
    /// Calls of its engine that fail.
    pub failing_calls: Vec<u64>,
    /// Time for a job, and in addition for each of its rows.
    pub job_us: RangeInclusive<u64>,
    /// Rows that its engine takes in one call.
    pub batch_rows_max: usize,
}

/// One cloud.
#[derive(Debug, Clone)]
pub struct CloudPlan {
    /// What it is told at start.
    pub config: CloudConfig,
    /// Calls of its engine that fail, counted anew after each restart.
    pub failing_calls: Vec<u64>,
    /// Time for a batch, and in addition for each of its rows.
    pub batch_us: RangeInclusive<u64>,
}

/// Every link between an edge and a cloud.
#[derive(Debug, Clone)]
pub struct LinkPlan {
    /// One way.
    pub latency: Duration,
    /// Added at random to each frame; frames of a stream stay in order.
    pub jitter: Duration,
    /// Bytes a second of one stream in one direction.
    pub bytes_per_second: u64,
    /// How late the cloud's side learns that a link is down.
    pub unnoticed_ms: RangeInclusive<u64>,
}

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A random connection is lost with all frames in flight.
    Cut,
    /// A cloud dies with all its memory, and starts anew later.
    Kill {
        /// Which.
        cloud: usize,
        /// For how long it is gone.
        lasting: Duration,
    },
    /// Frames from and to a cloud vanish and no link goes down: a black hole.
    Stall {
        /// Which.
        cloud: usize,
        /// For how long.
        lasting: Duration,
    },
    /// Frames from and to a cloud are held, and delivered late.
    Hold {
        /// Which.
        cloud: usize,
        /// For how long.
        lasting: Duration,
    },
    /// A cloud takes no more new sessions, until it is restarted.
    Drain {
        /// Which.
        cloud: usize,
    },
    /// A requester leaves.
    Cancel(SessionId),
    /// A stranger sends frames that make no sense to a cloud.
    RoguePeer {
        /// Which.
        cloud: usize,
    },
    /// A random stream brings its edge a frame that makes no sense.
    RogueFrame,
}

/// The pair that every edge and cloud belongs to.
pub fn identity(script: &Script) -> Identity {
    Identity {
        pair: "a pair".into(),
        source: "a model".into(),
        upload_at: 1,
        width: WIDTH as u32,
        vocabulary: script.vocabulary as u32,
    }
}

impl Plan {
    /// One edge, one cloud, nothing goes wrong. To be changed field by field.
    pub fn quiet(script: Script) -> Self {
        Self {
            seed: 1,
            edges: vec![EdgePlan::quiet(&script)],
            clouds: vec![CloudPlan::quiet(&script)],
            script,
            link: LinkPlan {
                latency: Duration::from_millis(10),
                jitter: Duration::ZERO,
                bytes_per_second: 1 << 40,
                unnoticed_ms: 0..=0,
            },
            faults: vec![],
            exact: true,
        }
    }

    /// Adds a request at a moment to the first edge.
    #[must_use]
    pub fn asking(mut self, at_ms: u64, request: Request) -> Self {
        self.edges[0].requests.push((Time(Duration::from_millis(at_ms)), request));
        self
    }

    /// Adds a fault; answers need not be the reference any more.
    #[must_use]
    pub fn suffering(mut self, at_ms: u64, fault: Fault) -> Self {
        self.faults.push((Time(Duration::from_millis(at_ms)), fault));
        self.exact = false;
        self
    }
}

impl EdgePlan {
    /// An edge part with room, whose jobs take one millisecond, and one more for each row.
    pub fn quiet(script: &Script) -> Self {
        Self {
            config: EdgeConfig {
                identity: identity(script),
                second: SecondStage::Tail,
                has_exit1: true,
                has_cloud: true,
                layers: 4,
                context: 128,
                slots: 8,
                waiting_max: 64,
                job_rows_max: 16,
                first_job_rows: 16,
                blocks: Blocks::new(4, 0),
                keep: Duration::ZERO,
                upload_rows_max: 64,
                upload: UploadSettings { exact: FeedChoice::Tokens, ..UploadSettings::PAPER },
                ask_deadline: Duration::from_secs(2),
                breaker: BreakerConfig::default(),
            },
            requests: vec![],
            failing_calls: vec![],
            job_us: 1000..=1000,
            batch_rows_max: 32,
        }
    }
}

impl CloudPlan {
    /// The whole model with room, whose batches take one millisecond, and one more for each row.
    pub fn quiet(script: &Script) -> Self {
        Self {
            config: CloudConfig {
                identity: identity(script),
                holds_whole: true,
                encodings: Encoding::ALL.into(),
                context: 128,
                slots: 16,
                batch_rows_max: 64,
                blocks: Blocks::new(16, 0),
                // Scenarios count batches and milliseconds of what they ask.
                ahead: Ahead::Nothing,
                contexts_max: 64,
                states_bytes_max: 1 << 20,
                idle_max: Duration::from_secs(30),
                hold: Duration::from_millis(500),
            },
            failing_calls: vec![],
            batch_us: 1000..=1000,
        }
    }
}

/// A collaborative request of up to 16 tokens, to be changed field by field.
pub fn request(session: u128, threshold: f32) -> Request {
    Request {
        session: SessionId(session),
        prompt: (0..8).map(|index| TokenId(1 + (session as u32 * 7 + index) % 50)).collect(),
        mode: Mode::Collaborative,
        thresholds: Threshold::new(threshold).expect("thresholds of tests are numbers from 0 on").into(),
        budget: None,
        run_ahead: RunAhead::Never,
        without: Ablation::Nothing,
        sampling: Sampling::GREEDY,
        tokens_max: 16,
        score_prompt: false,
        stop: vec![END_OF_TURN],
    }
}
