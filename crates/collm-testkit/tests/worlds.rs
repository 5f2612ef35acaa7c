//! Random worlds by the hundred. `COLLM_SEED=… cargo nextest run --release -p collm-testkit --test worlds <profile>` plays one
//! again, `COLLM_WORLDS=…` plays more, `COLLM_TRACE=1` tells everything that happens.

use std::{collections::BTreeMap, ops::Range};

use collm_core::{
    blocks::Blocks,
    edge::{AutoChoice, Event, FinishReason, Loss, Request, Source, SubmitError},
    frame::{RefusalCode, ToEdge},
    ids::SessionId,
    upload::FeedReason,
};
use collm_testkit::{EdgePlan, Entry, Fault, Plan, Profile, World};

/// Worlds of each profile unless the environment says otherwise.
const WORLDS: u64 = 500;

/// Says which world failed, whatever failed in it.
struct NamesSeed {
    profile: Profile,
    seed: u64,
}

impl Drop for NamesSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { profile, seed } = self;
            let name = profile.name();
            eprintln!("the world of seed {seed} failed; play it again:");
            eprintln!("COLLM_SEED={seed} cargo nextest run --release -p collm-testkit --test worlds -- --exact {name}");
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}; it must be a number")))
}

fn play(profile: Profile) {
    let seeds = match number("COLLM_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("COLLM_WORLDS").unwrap_or(WORLDS),
    };
    for seed in seeds {
        let _names_seed = NamesSeed { profile, seed };
        let plan = profile.plan(seed);
        let has_rogues =
            plan.faults.iter().any(|(_, fault)| matches!(fault, Fault::RogueFrame | Fault::RoguePeer { .. }));
        let cuts = Cuts::of(&plan);
        let mut world = World::new(plan);
        world.run();
        cuts.judge(&world);
        if !has_rogues {
            world.log().iter().for_each(|(_, entry)| judge_manners(entry));
        }
    }
}

/// Where nobody else speaks, neither side may find that the other broke the protocol.
fn judge_manners(entry: &Entry) {
    let Entry::Told(session, Event::Degraded(loss)) = entry else { return };
    // A cloud with too little room forgets and is told so; that is no breach.
    let forgot = matches!(loss, Loss::Protocol(what) if what.contains("forgets"));
    let breach = match loss {
        Loss::Protocol(_) => !forgot,
        Loss::Refused(refusal) => matches!(refusal.code, RefusalCode::Malformed | RefusalCode::Superseded),
        _ => false,
    };
    assert!(!breach, "session {session}: {loss}");
}

/// How the prompts of every request may be cut.
struct Cuts(BTreeMap<SessionId, (Blocks, u32)>);

impl Cuts {
    fn of(plan: &Plan) -> Self {
        let of_edge = |edge: &EdgePlan| {
            let blocks = edge.config.blocks;
            let cut = |(_, request): &(_, Request)| (request.session, (blocks, request.prompt.len() as u32));
            edge.requests.iter().map(cut).collect::<Vec<_>>()
        };
        Self(plan.edges.iter().flat_map(of_edge).collect())
    }

    /// Invariant 16, as far as it is the edges': from the first block on those of a prompt are computed whole, those of an answer never.
    fn judge(&self, world: &World) {
        let mut answering = BTreeMap::new();
        for (_, entry) in world.log() {
            match entry {
                Entry::Submitted(request, Ok(session)) => drop(answering.insert(*session, self.0[request])),
                Entry::JobStarted(session, job) => {
                    let (blocks, prompt) = answering[session];
                    judge_cut(job.first.0..job.first.0 + job.rows(), blocks, prompt);
                }
                _ => {}
            }
        }
    }
}

fn judge_cut(rows: Range<u32>, blocks: Blocks, prompt: u32) {
    let starts = (blocks.first()..rows.end).step_by(blocks.rows() as usize);
    for block in starts.map(|start| start..start + blocks.rows()).filter(|block| block.end > rows.start) {
        let comes_whole = rows.start <= block.start && block.end <= rows.end;
        // A block of one row always does.
        let is_right = comes_whole == (block.end <= prompt) || blocks.rows() == 1;
        assert!(is_right, "{rows:?} have a part in {block:?} of a prompt of {prompt}");
    }
}

#[test]
fn calm() {
    play(Profile::Calm);
}

#[test]
fn calm_baselines() {
    play(Profile::CalmBaselines);
}

#[test]
fn flaky() {
    play(Profile::Flaky);
}

#[test]
fn crowded() {
    play(Profile::Crowded);
}

#[test]
fn hostile_baselines() {
    play(Profile::HostileBaselines);
}

#[test]
fn hostile() {
    play(Profile::Hostile);
}

/// What a world must get into now and then, or its laws are not tested.
fn sights(entry: &Entry) -> Vec<&'static str> {
    match entry {
        Entry::Submitted(_, Err(SubmitError::Busy(_))) => vec!["a full queue"],
        Entry::Submitted(own, Ok(resumed)) if own != resumed => vec!["a follow-up"],
        Entry::Heard(_, ToEdge::Missing { .. }) => vec!["a cloud that forgot"],
        Entry::Heard(_, ToEdge::Opened { held: 1.., .. }) => vec!["a resumed context"],
        Entry::LinkDown(_) => vec!["a lost link"],
        Entry::BatchStarted(_, batch) if batch.parts.len() > 1 => vec!["a shared batch"],
        Entry::Told(_, event) => sights_of_requester(event),
        _ => vec![],
    }
}

fn sights_of_requester(event: &Event) -> Vec<&'static str> {
    match event {
        Event::Prompt(token) if token.degraded => vec!["a prompt scored alone"],
        Event::Prompt(token) if token.source == Source::Cloud => vec!["a prompt scored by the cloud"],
        Event::Prompt(_) => vec!["a prompt scored by an exit"],
        Event::Token(token) if token.degraded => vec!["a degraded token"],
        Event::Token(token) if token.source == Source::Cloud => vec!["a token of the cloud"],
        Event::Token(_) => vec!["a token of an exit"],
        Event::Degraded(loss) => vec![match loss {
            Loss::Deadline(_) => "a deadline",
            Loss::Link(_) => "a loss of the link",
            Loss::Refused(refusal) => refusal_sight(refusal.code),
            Loss::BreakerOpen => "an open breaker",
            Loss::Unsendable(_) => "states that cannot be uploaded",
            Loss::Protocol(_) => "a broken protocol",
        }],
        Event::Finished(FinishReason::Cancelled, _) => vec!["a requester that left"],
        Event::Finished(_, stats) => {
            let reason = stats.feed.map(|chosen| chosen.reason);
            let seen = [
                (stats.positions_replayed > 0, "a replay"),
                (stats.rollbacks > 0, "a rollback"),
                (
                    stats.budget.is_some_and(|report| report.lowest < report.highest),
                    "a budget that moves the threshold",
                ),
                (stats.budget.is_some_and(|report| !report.kept), "a budget that is not kept"),
                (stats.fell_after.is_some(), "an answer that fell to the edge"),
                (stats.choice == Some(AutoChoice::CloudDown), "a choice against a cloud that failed"),
                (reason == Some(FeedReason::NotTaken), "a feed in place of another"),
            ];
            seen.into_iter().filter_map(|(seen, sight)| seen.then_some(sight)).collect()
        }
        Event::Failed(_) => vec!["a failed engine"],
    }
}

fn refusal_sight(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Busy => "a busy cloud",
        RefusalCode::Draining => "a stopping cloud",
        RefusalCode::Internal => "a failed batch",
        RefusalCode::ContextLength => "a context too long for the cloud",
        RefusalCode::Feed => "a cloud without the lower layers",
        _ => "another refusal",
    }
}

#[test]
fn hostile_worlds_get_into_everything() {
    let mut seen: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 1..=400 {
        let mut world = World::new(Profile::Hostile.plan(seed));
        world.run();
        for sight in world.log().iter().flat_map(|(_, entry)| sights(entry)) {
            *seen.entry(sight).or_default() += 1;
        }
    }
    let expected = [
        "a broken protocol",
        "a budget that is not kept",
        "a budget that moves the threshold",
        "a busy cloud",
        "a choice against a cloud that failed",
        "a cloud that forgot",
        "a cloud without the lower layers",
        "a context too long for the cloud",
        "a deadline",
        "a degraded token",
        "a failed batch",
        "a failed engine",
        "a feed in place of another",
        "a follow-up",
        "a full queue",
        "a loss of the link",
        "a lost link",
        "a prompt scored alone",
        "a prompt scored by an exit",
        "a prompt scored by the cloud",
        "a replay",
        "a requester that left",
        "a resumed context",
        "a rollback",
        "a shared batch",
        "a stopping cloud",
        "a token of an exit",
        "a token of the cloud",
        "an answer that fell to the edge",
        "an open breaker",
    ];
    let never: Vec<&str> = expected.into_iter().filter(|sight| !seen.contains_key(sight)).collect();
    assert!(never.is_empty(), "400 worlds never saw {never:?}, but {seen:?}");
}
