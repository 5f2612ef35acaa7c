//! Kinds of random worlds. A profile and a seed make a plan.

use std::{ops::RangeInclusive, time::Duration};

use collm_core::{
    blocks::Blocks,
    budget::{Budget, Target},
    cloud::Ahead,
    edge::{Ablation, BreakerConfig, Request, SecondStage},
    grammar::{Expression, Grammar},
    ids::{SessionId, TokenId},
    policy::{Mode, RunAhead, Threshold},
    sampling::Sampling,
    states::Encoding,
    time::Time,
    upload::{FeedChoice, UploadSettings, UploadStart},
};
use collm_engine::scripted::{END_OF_TURN, Script, WIDTH};

use crate::{
    oracle::Oracle,
    plan::{CloudPlan, EdgePlan, Fault, LinkPlan, Plan},
    random::Random,
};

/// When the last request comes in and the last fault strikes, in milliseconds.
const HORIZON_MS: u64 = 3_000;

/// A kind of world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Nothing goes wrong and there is room for all: answers must be the reference.
    Calm,
    /// As calm, with the modes cloud, naive, standalone and whole.
    CalmBaselines,
    /// Connections are lost, clouds die and come back.
    Flaky,
    /// More sessions than slots, contexts and bytes; several edges share a cloud.
    Crowded,
    /// The modes cloud and naive, with everything that may go wrong.
    HostileBaselines,
    /// Everything at once: also black holes, failing engines, frames that make no sense, requesters that leave.
    Hostile,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 6] =
        [Self::Calm, Self::CalmBaselines, Self::Flaky, Self::Crowded, Self::HostileBaselines, Self::Hostile];

    /// The word for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::CalmBaselines => "calm_baselines",
            Self::Flaky => "flaky",
            Self::Crowded => "crowded",
            Self::HostileBaselines => "hostile_baselines",
            Self::Hostile => "hostile",
        }
    }

    /// The world of a seed.
    pub fn plan(self, seed: u64) -> Plan {
        Draft { profile: self, random: Random::new(seed) }.plan(seed)
    }

    fn is_calm(self) -> bool {
        matches!(self, Self::Calm | Self::CalmBaselines)
    }

    fn is_hostile(self) -> bool {
        matches!(self, Self::Hostile | Self::HostileBaselines)
    }

    /// Whether room for sessions is scarce.
    fn is_tight(self) -> bool {
        self == Self::Crowded || self.is_hostile()
    }

    fn modes(self) -> &'static [Mode] {
        match self {
            Self::Calm | Self::Crowded | Self::Flaky => &[Mode::Collaborative, Mode::Exact, Mode::Auto],
            Self::CalmBaselines => &[Mode::Cloud, Mode::Naive, Mode::Standalone],
            Self::HostileBaselines => &[Mode::Cloud, Mode::Naive],
            Self::Hostile => {
                &[Mode::Collaborative, Mode::Exact, Mode::Auto, Mode::Cloud, Mode::Naive, Mode::Standalone]
            }
        }
    }
}

/// Draws a plan.
struct Draft {
    profile: Profile,
    random: Random,
}

impl Draft {
    fn plan(&mut self, seed: u64) -> Plan {
        let script = self.script();
        let edges: Vec<EdgePlan> = (0..self.random.within(1..=3)).map(|edge| self.edge(&script, edge)).collect();
        let clouds: Vec<CloudPlan> = (0..self.random.within(1..=2)).map(|_| self.cloud(&script)).collect();
        Plan {
            seed,
            link: self.link(),
            faults: self.faults(&edges, clouds.len() as u64),
            exact: self.profile.is_calm(),
            script,
            edges,
            clouds,
        }
    }

    fn script(&mut self) -> Script {
        Script {
            seed: self.random.bits() >> 8,
            vocabulary: self.random.pick(&[8, 64, 300]),
            exit1_agrees: self.random.pick(&[0.1, 0.5, 0.9]),
            exit2_agrees: self.random.pick(&[0.3, 0.8, 1.0]),
            turn_ends: self.random.pick(&[0.0, 0.02, 0.1]),
        }
    }

    fn edge(&mut self, script: &Script, edge: u64) -> EdgePlan {
        let mut plan = EdgePlan::quiet(script);
        let (calm, random) = (self.profile.is_calm(), &mut self.random);
        let config = &mut plan.config;
        if self.profile == Profile::CalmBaselines && random.chance(0.2) {
            config.second = SecondStage::Whole;
        }
        config.has_exit1 = random.chance(0.7);
        config.context = random.count(24..=60);
        config.slots = if self.profile.is_tight() { random.count(1..=3) } else { 8 };
        config.waiting_max = if self.profile.is_tight() { random.count(1..=6) } else { 16 };
        config.blocks = Blocks::new(random.count(1..=8), random.count(0..=30));
        config.job_rows_max = random.count(1..=20).next_multiple_of(config.blocks.rows());
        config.first_job_rows = random.count(1..=20);
        config.keep = random.pick(&[Duration::ZERO, Duration::from_millis(300), Duration::from_secs(5)]);
        config.upload_rows_max = random.count(1..=20);
        config.upload = upload(random);
        config.ask_deadline = if calm { Duration::from_secs(600) } else { random.span_ms(30..=1500) };
        config.breaker =
            BreakerConfig { pause_first: random.span_ms(10..=300), pause_max: random.span_ms(300..=2_000) };
        plan.job_us = span(random, 50, 1500);
        plan.batch_rows_max = random.within(4..=24) as usize;
        if self.profile.is_hostile() && random.chance(0.3) {
            plan.failing_calls = (0..random.within(1..=2)).map(|_| random.within(0..=150)).collect();
        }
        let sessions = self.random.within(1..=5);
        plan.requests = (0..sessions).map(|index| self.request(script, &plan, edge << 32 | index)).collect();
        for turn in 0..self.random.within(0..=6) {
            let follow_up = self.follow_up(script, &plan, edge << 32 | (sessions + turn));
            plan.requests.push(follow_up);
        }
        plan
    }

    /// The prompt of an earlier request, not always all of it, maybe what was answered, and something new.
    fn follow_up(&mut self, script: &Script, plan: &EdgePlan, session: u64) -> (Time, Request) {
        let (at, mut request) = self.request(script, plan, session);
        let earlier = self.random.within(0..=plan.requests.len() as u64 - 1) as usize;
        let (earlier_at, earlier) = &plan.requests[earlier];
        let room = plan.config.context as usize - 1;
        let mut shared = earlier.prompt.clone();
        if self.random.chance(0.7) {
            let answer = Oracle::new(script, earlier, &plan.config).reference().tokens;
            let told = self.random.within(0..=answer.len() as u64) as usize;
            shared.extend(answer.iter().take(told).map(|(token, _)| *token));
        } else {
            shared.truncate(earlier.prompt.len() / 2);
        }
        request.prompt = [shared, request.prompt].concat();
        request.prompt.truncate(room);
        (request.mode, request.budget) = (earlier.mode, earlier.budget);
        request.score_prompt &= request.mode != Mode::Auto;
        request.tokens_max = request.tokens_max.max(u32::from(!request.score_prompt));
        (*earlier_at + (at - Time::default()) / 4, request)
    }

    fn request(&mut self, script: &Script, plan: &EdgePlan, session: u64) -> (Time, Request) {
        // A private edge takes nothing that the cloud would need token ids for.
        let private = plan.config.upload.private;
        let sampling = if private { self.plain_sampling() } else { self.sampling() };
        let random = &mut self.random;
        let score_prompt = !private && random.chance(0.2);
        let modes: Vec<Mode> =
            self.profile.modes().iter().copied().filter(|mode| !private || *mode != Mode::Cloud).collect();
        let prompt_max = u64::from(plan.config.context).min(30) - 1;
        let prompt = (0..random.within(1..=prompt_max))
            .map(|_| TokenId(random.within(0..=script.vocabulary as u64 - 1) as u32))
            .collect();
        let is_whole = plan.config.second == SecondStage::Whole;
        let mode = if is_whole { Mode::Whole } else { random.pick(&modes) };
        // Who tells the prompt depends on what is chosen; the judge knows it only at the end.
        let score_prompt = score_prompt && mode != Mode::Auto;
        let request = Request {
            session: SessionId(u128::from(session) + 1),
            prompt,
            mode,
            budget: if mode.takes_budget() && random.chance(0.4) { Some(budget(random)) } else { None },
            thresholds: random
                .pick(&[
                    Threshold::ALWAYS,
                    Threshold::new(0.5).expect("a number"),
                    Threshold::DEFAULT,
                    Threshold::new(0.95).expect("a number"),
                    Threshold::NEVER,
                ])
                .into(),
            run_ahead: random.pick(&[
                RunAhead::Never,
                RunAhead::Always(1),
                RunAhead::Always(5),
                RunAhead::Always(30),
                RunAhead::DEFAULT,
            ]),
            without: Ablation::Nothing,
            sampling,
            tokens_max: random.count(if score_prompt { 0..=3 } else { 1..=30 }),
            score_prompt,
            stop: if random.chance(0.8) { vec![END_OF_TURN] } else { vec![] },
        };
        (Time(random.span_ms(0..=HORIZON_MS / 2)), request)
    }

    /// Without anything that looks back at tokens.
    fn plain_sampling(&mut self) -> Sampling {
        Sampling { temperature: self.random.pick(&[0.0, 0.7]), seed: self.random.bits(), ..Sampling::GREEDY }
    }

    fn sampling(&mut self) -> Sampling {
        let random = &mut self.random;
        if random.chance(0.5) {
            return Sampling::GREEDY;
        }
        Sampling {
            temperature: random.pick(&[0.0, 0.7, 1.5]),
            top_k: random.pick(&[0, 5]),
            top_p: random.pick(&[1.0, 0.9]),
            min_p: random.pick(&[0.0, 0.05]),
            repeat_penalty: random.pick(&[1.0, 1.3]),
            repeat_last_n: random.count(0..=12),
            presence_penalty: random.pick(&[0.0, 0.0, 1.5]),
            frequency_penalty: random.pick(&[0.0, 0.0, 0.5]),
            bias: if random.chance(0.2) { vec![(TokenId(1), 3.0), (TokenId(2), -100.0)] } else { vec![] },
            grammar: random.chance(0.2).then(in_pairs),
            log_probs: random.pick(&[None, Some(0), Some(3)]),
            seed: random.bits(),
        }
    }

    fn cloud(&mut self, script: &Script) -> CloudPlan {
        let mut plan = CloudPlan::quiet(script);
        let random = &mut self.random;
        let config = &mut plan.config;
        config.context = 60;
        config.holds_whole = self.profile.is_calm() || random.chance(0.7);
        if !self.profile.is_calm() {
            // Every cloud takes f32.
            config.encodings.retain(|encoding| *encoding == Encoding::F32 || random.chance(0.8));
        }
        config.batch_rows_max = random.count(1..=40);
        config.blocks = Blocks::new(random.count(1..=20), random.count(0..=30));
        config.ahead = random.pick(&[Ahead::Nothing, Ahead::Prompts, Ahead::Answers, Ahead::Everything]);
        if self.profile.is_tight() {
            config.slots = random.count(1..=3);
            config.contexts_max = random.count(1..=6);
            // From less than one session to several.
            config.states_bytes_max = random.within(10..=300) as usize * WIDTH * 2;
            config.idle_max = random.span_ms(200..=5_000);
            config.hold = random.span_ms(0..=1_000);
            config.context = random.count(20..=60);
        }
        plan.batch_us = span(random, 50, 1500);
        if self.profile.is_hostile() && random.chance(0.3) {
            plan.failing_calls = (0..random.within(1..=3)).map(|_| random.within(0..=200)).collect();
        }
        plan
    }

    fn link(&mut self) -> LinkPlan {
        let random = &mut self.random;
        LinkPlan {
            latency: random.span_us(0..=60_000),
            jitter: random.span_us(0..=20_000),
            bytes_per_second: random.pick(&[10_000, 1_000_000, 1 << 40]),
            unnoticed_ms: 0..=random.pick(&[0, 100, 5_000]),
        }
    }

    fn faults(&mut self, edges: &[EdgePlan], clouds: u64) -> Vec<(Time, Fault)> {
        if matches!(self.profile, Profile::Calm | Profile::CalmBaselines | Profile::Crowded) {
            return vec![];
        }
        let sessions: Vec<SessionId> =
            edges.iter().flat_map(|edge| edge.requests.iter().map(|(_, request)| request.session)).collect();
        let count = self.random.within(1..=12);
        (0..count).map(|_| (Time(self.random.span_ms(0..=HORIZON_MS)), self.fault(&sessions, clouds))).collect()
    }

    fn fault(&mut self, sessions: &[SessionId], clouds: u64) -> Fault {
        let random = &mut self.random;
        let cloud = random.within(0..=clouds - 1) as usize;
        let lasting = random.span_ms(0..=800);
        let kinds = if self.profile.is_hostile() { 12 } else { 6 };
        match random.within(0..=kinds) {
            0..=3 => Fault::Cut,
            4 => Fault::Kill { cloud, lasting },
            5 => Fault::Hold { cloud, lasting },
            6 => Fault::Stall { cloud, lasting },
            7 => Fault::Drain { cloud },
            8..=9 => Fault::Cancel(random.pick(sessions)),
            10 => Fault::RoguePeer { cloud },
            _ => Fault::RogueFrame,
        }
    }
}

/// Tight ones and loose ones.
fn budget(random: &mut Random) -> Budget {
    let target = if random.chance(0.5) {
        Target::cloud_share(random.pick(&[0.0, 0.1, 0.5, 1.0])).expect("a share")
    } else {
        Target::TimePerToken(random.span_us(100..=200_000))
    };
    let threshold_min = random.pick(&[Threshold::ALWAYS, Threshold::new(0.5).expect("a number")]);
    Budget { target, threshold_min }
}

/// Any number of two letters, the first from the first half of the alphabet. Small vocabularies lack the second half.
fn in_pairs() -> Grammar {
    let pair = Expression::Sequence(vec![Expression::Range(b'A', b'M'), Expression::Range(b'N', b'Z')]);
    Expression::compile(&[pair.any_number()]).expect("a few steps")
}

fn upload(random: &mut Random) -> UploadSettings {
    let choices = [FeedChoice::States, FeedChoice::Tokens, FeedChoice::Auto];
    UploadSettings {
        encoding: random.pick(&Encoding::ALL),
        collaborative: random.pick(&choices),
        exact: random.pick(&choices),
        start: random.pick(&[UploadStart::Eager, UploadStart::Lazy]),
        private: random.chance(0.2),
    }
}

/// A range within the given one.
fn span(random: &mut Random, from: u64, to: u64) -> RangeInclusive<u64> {
    let low = random.within(from..=to);
    low..=random.within(low..=to)
}
