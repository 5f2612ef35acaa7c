//! Named scenarios in virtual time: one plan each, and exactly what must come of it.

use std::time::Duration;

use collm_core::{
    blocks::Blocks,
    cloud::Occupancy,
    edge::{
        Ablation, Event, FinishReason, Loss, Request, SecondStage, Source, Stage, Stats, StreamId, SubmitError, Token,
    },
    frame::{RefusalCode, ToCloud, ToEdge},
    ids::{Position, SessionId, TokenId},
    policy::{Mode, RunAhead, Threshold},
    sampling::Sampling,
    states::Encoding,
    time::Time,
};
use collm_engine::scripted::{Script, WIDTH};
use collm_testkit::{EdgePlan, Entry, Fault, Plan, World, request};

/// One way, in milliseconds, of every link.
const LATENCY_MS: u64 = 10;

/// A model whose turns do not end, so that answers have the length asked for.
fn script() -> Script {
    Script { turn_ends: 0.0, ..Script::default() }
}

fn quiet() -> Plan {
    let mut plan = Plan::quiet(script());
    plan.link.latency = ms(LATENCY_MS);
    plan
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Asks the cloud for every token.
fn unsure(session: u128) -> Request {
    Request { thresholds: Threshold::NEVER.into(), stop: vec![], ..request(session, 1.0) }
}

fn played(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.run();
    world
}

fn stats(world: &World, session: u128) -> Stats {
    let end = world.answer(session).end.clone().expect("the world has come to rest");
    end.expect("no engine failed").1
}

/// What happened to one session, with the moment.
fn events(world: &World, session: u128) -> Vec<(Time, Event)> {
    let told = |(at, entry): &(Time, Entry)| match entry {
        Entry::Told(id, event) if *id == SessionId(session) => Some((*at, event.clone())),
        _ => None,
    };
    world.log().iter().filter_map(told).collect()
}

fn losses(world: &World, session: u128) -> Vec<(Time, Loss)> {
    let loss = |(at, event)| match event {
        Event::Degraded(loss) => Some((at, loss)),
        _ => None,
    };
    events(world, session).into_iter().filter_map(loss).collect()
}

/// When each entry happened that is meant.
fn moments(world: &World, is_meant: impl Fn(&Entry) -> bool) -> Vec<Duration> {
    world.log().iter().filter(|(_, entry)| is_meant(entry)).map(|(at, _)| at.0).collect()
}

fn connects(world: &World) -> Vec<Duration> {
    moments(world, |entry| matches!(entry, Entry::Connected(_)))
}

fn sources(tokens: &[Token]) -> Vec<Source> {
    tokens.iter().map(|token| token.source).collect()
}

#[test]
fn every_unsure_token_waits_for_one_round_trip() {
    let world = played(quiet().asking(0, unsure(1)));
    let stats = stats(&world, 1);
    assert_eq!((stats.asks, stats.round_trips_waited, stats.cloud_tokens), (16, 16, 16));
    for token in &world.answer(1).tokens[1..] {
        // There, a batch of one row, and back.
        assert_eq!(token.waited, ms(LATENCY_MS + 2 + LATENCY_MS), "{token:?}");
        assert_eq!(token.round_trip, Some(token.waited));
    }
    assert_eq!((stats.positions_uploaded, stats.positions_replayed, stats.connections), (8 + 15, 0, 1));
}

#[test]
fn asking_for_everything_gives_the_whole_models_answer() {
    let warm = Sampling { temperature: 1.0, top_p: 0.9, repeat_penalty: 1.2, seed: 42, ..Sampling::GREEDY };
    for sampling in [Sampling::GREEDY, warm] {
        let asked = |mode| Request { mode, sampling: sampling.clone(), ..unsure(1) };
        let mut alone = quiet().asking(0, asked(Mode::Whole));
        alone.edges[0].config.second = SecondStage::Whole;
        let whole = played(alone).answer(1).ids();
        for encoding in Encoding::ALL {
            let mut plan = quiet().asking(0, asked(Mode::Collaborative));
            plan.edges[0].config.upload.encoding = encoding;
            assert_eq!(played(plan).answer(1).ids(), whole, "{encoding:?}");
        }
        for mode in [Mode::Naive, Mode::Cloud] {
            assert_eq!(played(quiet().asking(0, asked(mode))).answer(1).ids(), whole, "{mode:?}");
        }
    }
}

#[test]
fn sure_tokens_wait_for_nothing() {
    let sure = Request { thresholds: Threshold::ALWAYS.into(), ..unsure(1) };
    let world = played(quiet().asking(0, sure));
    let stats = stats(&world, 1);
    assert_eq!((stats.asks, stats.round_trips_waited, stats.waited), (0, 0, Duration::ZERO));
    assert_eq!(stats.exit1_tokens, 16);
    assert_eq!(stats.positions_uploaded, 8 + 15, "the cloud is kept ready all the same");
}

#[test]
fn the_upload_runs_beside_the_second_stage() {
    let world = played(quiet().asking(0, unsure(1)));
    let uploads = moments(&world, |entry| matches!(entry, Entry::Transmitted(_, ToCloud::States { .. })));
    assert_eq!(uploads, moments(&world, begins_second), "states leave when the second stage begins, not when it ends");
    assert_eq!(uploads.len(), 16);
}

#[test]
fn a_prompt_goes_up_piece_by_piece_while_the_rest_is_computed() {
    let mut plan = quiet().asking(0, unsure(1));
    plan.edges[0].config.blocks = Blocks::new(3, 0);
    plan.edges[0].config.job_rows_max = 3;
    plan.edges[0].config.upload_rows_max = 2;
    let expected = [(ms(4), 2), (ms(4), 1), (ms(8), 2), (ms(8), 1), (ms(11), 2)];
    assert_eq!(uploads_of_prompt(&played(plan)), expected);
}

#[test]
fn a_prompt_begins_with_small_pieces_where_the_cloud_waits_for_them() {
    let mut plan = quiet().asking(0, unsure(1));
    plan.edges[0].config.blocks = Blocks::new(3, 3);
    plan.edges[0].config.job_rows_max = 6;
    plan.edges[0].config.first_job_rows = 2;
    let world = played(plan.clone());
    assert_eq!(uploads_of_prompt(&world), [(ms(3), 2), (ms(5), 1), (ms(11), 5)], "up to the first block");
    plan.edges[0].requests[0].1.mode = Mode::Standalone;
    let first = |entry: &Entry| matches!(entry, Entry::JobStarted(_, job) if matches!(job.stage, Stage::First { .. }));
    assert_eq!(moments(&played(plan), first)[..2], [ms(0), ms(7)], "nobody waits: six rows, then two");
}

/// The second stage begins for some positions.
fn begins_second(entry: &Entry) -> bool {
    matches!(entry, Entry::JobStarted(_, job) if matches!(job.stage, Stage::Second { .. }))
}

/// When states went up, and how many, until the second stage began.
fn uploads_of_prompt(world: &World) -> Vec<(Duration, u32)> {
    let first_second = moments(world, begins_second)[0];
    let upload = |(at, entry): &(Time, Entry)| match entry {
        Entry::Transmitted(_, ToCloud::States { block, .. }) => Some((at.0, block.rows())),
        _ => None,
    };
    world.log().iter().filter(|(at, _)| at.0 <= first_second).filter_map(upload).collect()
}

#[test]
fn an_edge_falls_back_exactly_at_the_deadline() {
    let mut plan = quiet().asking(0, unsure(1)).suffering(100, Fault::Stall { cloud: 0, lasting: ms(60_000) });
    plan.edges[0].config.ask_deadline = ms(500);
    let world = played(plan);
    let (lost_at, loss) = losses(&world, 1)[0].clone();
    assert_eq!(loss, Loss::Deadline(ms(500)));
    let asks = moments(&world, |entry| matches!(entry, Entry::Transmitted(_, ToCloud::Ask(_))));
    assert_eq!(lost_at.0, asks.last().expect("it asked").saturating_add(ms(500)));
    let degraded: Vec<&Token> = world.answer(1).tokens.iter().filter(|token| token.degraded).collect();
    assert_eq!(degraded[0].waited, ms(500));
    assert_eq!(degraded[1].waited, Duration::ZERO, "nobody waits for a cloud that is known to be gone");
    assert_eq!(world.answer(1).tokens.len(), 16);
}

#[test]
fn a_silent_handshake_ends_at_the_deadline_too() {
    let mut plan = quiet().asking(0, unsure(1)).suffering(0, Fault::Stall { cloud: 0, lasting: ms(60_000) });
    // The fault comes first.
    plan.edges[0].requests[0].0 = Time(ms(1));
    plan.edges[0].config.ask_deadline = ms(300);
    let world = played(plan);
    assert_eq!(losses(&world, 1), [(Time(ms(301)), Loss::Deadline(ms(300)))]);
}

#[test]
fn a_dead_cloud_is_tried_again_at_doubling_pauses_and_replayed_when_it_is_back() {
    let mut plan = quiet().suffering(200, Fault::Kill { cloud: 0, lasting: ms(1_500) });
    plan.edges[0].job_us = 20_000..=20_000;
    let config = &mut plan.edges[0].config;
    (config.breaker.pause_first, config.breaker.pause_max) = (ms(100), ms(400));
    let world = played(plan.asking(0, Request { tokens_max: 64, ..unsure(1) }));
    let pauses: Vec<Duration> = connects(&world)[1..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    let refused = 2 * LATENCY_MS;
    assert_eq!(pauses, [ms(200 + refused), ms(400 + refused), ms(400 + refused), ms(400 + refused)]);
    assert_eq!(connects(&world)[1], losses(&world, 1)[0].0.0 + ms(100));
    let stats = stats(&world, 1);
    assert!(stats.degraded_tokens > 0 && stats.positions_replayed > 0, "{stats:?}");
    let last = world.answer(1).tokens.last().expect("64 tokens");
    assert_eq!((last.source, last.degraded), (Source::Cloud, false), "collaboration goes on");
    assert_eq!(losses(&world, 1).len(), 1, "one loss is told once");
}

#[test]
fn one_session_tries_a_cloud_that_failed_and_the_others_follow_it() {
    let mut plan = quiet().suffering(100, Fault::Kill { cloud: 0, lasting: ms(150) });
    plan.edges[0].config.breaker.pause_first = ms(300);
    let long = |session| Request { tokens_max: 100, prompt: vec![collm_core::ids::TokenId(3)], ..unsure(session) };
    plan.edges[0].job_us = 5_000..=5_000;
    let world = played(plan.asking(0, long(1)).asking(0, long(2)).asking(0, long(3)));
    let connects = connects(&world);
    assert_eq!(connects.len(), 6, "each session once at first and once again: {connects:?}");
    let probe = connects[3];
    assert_eq!(connects[4..], [probe + ms(2 * LATENCY_MS); 2], "the others when the probe is through");
}

#[test]
fn what_the_cloud_forgot_is_replayed() {
    let mut plan = quiet().asking(0, Request { tokens_max: 4, ..unsure(1) });
    // Longer from upload to ask than the cloud keeps a context nobody uses.
    plan.edges[0].job_us = 30_000..=30_000;
    plan.clouds[0].config.idle_max = ms(20);
    let world = played(plan);
    let missing = moments(&world, |entry| matches!(entry, Entry::Heard(_, ToEdge::Missing { held: 0, .. })));
    let stats = stats(&world, 1);
    assert_eq!((missing.len(), stats.asks, stats.round_trips_waited), (4, 8, 4));
    assert_eq!(stats.positions_replayed, 8 + 9 + 10 + 11, "all that is known, each time");
}

#[test]
fn the_least_recently_used_context_gives_way() {
    let mut plan = quiet();
    // One session's states and half of another's.
    plan.clouds[0].config.states_bytes_max = 36 * Encoding::F16.row_bytes(WIDTH as u32);
    plan.clouds[0].config.hold = ms(0);
    plan.edges[0].job_us = 3_000..=3_000;
    let sparse = |session| Request { thresholds: Threshold::new(0.9).expect("a number").into(), ..unsure(session) };
    plan.exact = false;
    let world = played(plan.asking(0, sparse(1)).asking(40, sparse(2)));
    let missing = moments(&world, |entry| matches!(entry, Entry::Heard(_, ToEdge::Missing { .. })));
    assert!(!missing.is_empty());
    assert!(stats(&world, 1).positions_replayed + stats(&world, 2).positions_replayed > 0);
}

#[test]
fn more_sessions_than_slots_wait_their_turn() {
    let mut plan = quiet();
    plan.edges[0].config.slots = 2;
    plan.edges[0].config.waiting_max = 3;
    for session in 1..=6 {
        plan = plan.asking(0, unsure(session));
    }
    let world = played(plan);
    let refused: Vec<&Entry> = world.log().iter().map(|(_, entry)| entry).filter(is_refused).collect();
    assert!(matches!(refused[..], [Entry::Submitted(SessionId(6), Err(SubmitError::Busy(3)))]), "{refused:?}");
    let ends: Vec<Time> = (1..=5).map(|session| world.answer(session).ended).collect();
    assert!(ends.is_sorted(), "first come, first served: {ends:?}");
    for session in 3..=5 {
        let begun = events(&world, session)[0].0;
        let gone = (1..session).filter(|earlier| world.answer(*earlier).ended <= begun).count();
        assert!(gone + 2 >= session as usize, "session {session} began while two others had the slots");
    }
}

fn is_refused(entry: &&Entry) -> bool {
    matches!(entry, Entry::Submitted(_, Err(_)))
}

#[test]
fn more_sessions_than_the_cloud_has_slots_take_turns_there() {
    let mut plan = quiet();
    plan.clouds[0].config.slots = 1;
    for session in 1..=4 {
        plan = plan.asking(0, unsure(session));
    }
    let world = played(plan);
    assert!((1..=4).all(|session| stats(&world, session).cloud_tokens == 16));
}

#[test]
fn sessions_share_batches() {
    let mut plan = quiet();
    for _ in 0..3 {
        plan.edges.push(EdgePlan::quiet(&plan.script));
    }
    for (index, edge) in plan.edges.iter_mut().enumerate() {
        edge.requests.push((Time::default(), unsure(index as u128 + 1)));
    }
    let world = played(plan);
    let parts = world.log().iter().filter_map(|(_, entry)| match entry {
        Entry::BatchStarted(_, batch) => Some(batch.parts.len()),
        _ => None,
    });
    assert_eq!(parts.max(), Some(3), "one batch is under way, the other three wait for it together");
}

#[test]
fn a_refusal_for_good_is_not_retried() {
    let mut plan = quiet().asking(0, unsure(1));
    plan.clouds[0].config.identity.pair = "another pair".into();
    plan.exact = false;
    let world = played(plan);
    let losses = losses(&world, 1);
    let [(_, Loss::Refused(refusal))] = &losses[..] else { panic!("{losses:?}") };
    assert_eq!(refusal.code, RefusalCode::Identity);
    assert_eq!(connects(&world).len(), 1);
    assert_eq!(stats(&world, 1).degraded_tokens, 16 - stats(&world, 1).exit1_tokens);
}

#[test]
fn a_cloud_without_the_lower_layers_refuses_tokens_and_the_edge_answers_alone() {
    let mut plan = quiet().asking(0, Request { mode: Mode::Cloud, ..unsure(1) });
    plan.clouds[0].config.holds_whole = false;
    plan.exact = false;
    let world = played(plan);
    let losses = losses(&world, 1);
    assert!(matches!(&losses[..], [(_, Loss::Refused(refusal))] if refusal.code == RefusalCode::Feed), "{losses:?}");
    assert!(world.answer(1).tokens.iter().all(|token| token.degraded && token.source == Source::Exit2));
}

#[test]
fn a_stopping_cloud_lets_open_sessions_go_on() {
    let plan = quiet().asking(0, unsure(1)).asking(150, unsure(2)).suffering(100, Fault::Drain { cloud: 0 });
    let world = played(plan);
    assert_eq!(stats(&world, 1).cloud_tokens, 16);
    assert_eq!(stats(&world, 2).cloud_tokens, 0);
    let losses = losses(&world, 2);
    assert!(
        matches!(&losses[..], [(_, Loss::Refused(refusal))] if refusal.code == RefusalCode::Draining),
        "{losses:?}"
    );
}

#[test]
fn a_reconnecting_session_takes_its_context_over() {
    let mut plan = quiet().asking(0, Request { tokens_max: 40, ..unsure(1) }).suffering(103, Fault::Cut);
    // The cloud believes in the old stream when the new one comes.
    plan.link.unnoticed_ms = 10_000..=10_000;
    plan.edges[0].config.breaker.pause_first = ms(30);
    let world = played(plan);
    let second = StreamId { session: SessionId(1), attempt: 2 };
    let held = world.log().iter().find_map(|(_, entry)| match entry {
        Entry::Heard(stream, ToEdge::Opened { held, .. }) if *stream == second => Some(*held),
        _ => None,
    });
    assert!(held.expect("the second stream was opened") >= 8, "what had arrived is still there: {held:?}");
    let stats = stats(&world, 1);
    assert!(stats.positions_replayed <= 1, "at most what was in flight goes up again: {stats:?}");
    assert_eq!(world.answer(1).tokens.last().map(|token| token.source), Some(Source::Cloud));
}

#[test]
fn a_late_answer_changes_nothing() {
    let long = Request { tokens_max: 60, ..unsure(1) };
    let mut plan = quiet().asking(0, long).suffering(115, Fault::Hold { cloud: 0, lasting: ms(400) });
    plan.edges[0].config.ask_deadline = ms(200);
    plan.edges[0].job_us = 5_000..=5_000;
    let world = played(plan);
    let of_first = |stream: &StreamId| stream.attempt == 1;
    let left = moments(&world, |entry| matches!(entry, Entry::Left(stream) if of_first(stream)));
    let answers = moments(&world, |entry| matches!(entry, Entry::Heard(stream, ToEdge::Answer(_)) if of_first(stream)));
    assert_eq!((left, answers.last()), (vec![ms(290)], Some(&ms(515))), "an answer came after its stream was left");
    assert!(world.answer(1).ended.0 > ms(515), "and the session was still there");
    // That its token is not in the answer is the judge's to see.
    assert_eq!(world.answer(1).tokens.len(), 60);
}

#[test]
fn a_requester_that_leaves_leaves_nothing_behind() {
    let plan = quiet().asking(0, Request { tokens_max: 100, ..unsure(1) }).suffering(300, Fault::Cancel(SessionId(1)));
    let mut world = World::new(plan);
    while world.now().0 < ms(300) {
        assert!(world.step());
    }
    assert_eq!(world.occupancy(0).map(|held| held.contexts), Some(1));
    while world.now().0 < ms(300 + 2 * LATENCY_MS) && world.step() {}
    assert_eq!(world.occupancy(0), Some(Occupancy::default()), "the cloud is told, it need not wait until it is stale");
    world.run();
    let end = world.answer(1).end.clone();
    assert!(matches!(end, Some(Ok((FinishReason::Cancelled, _)))), "{end:?}");
}

#[test]
fn the_naive_split_sends_everything_for_every_token() {
    let world = played(quiet().asking(0, Request { mode: Mode::Naive, ..unsure(1) }));
    let stats = stats(&world, 1);
    assert_eq!(stats.positions_uploaded, (8..8 + 16).sum::<u32>());
    assert_eq!((stats.asks, stats.round_trips_waited, stats.cloud_tokens), (16, 16, 16));
}

#[test]
fn what_is_left_out_of_the_method_costs_what_the_paper_says() {
    let whole = Request { run_ahead: RunAhead::Never, ..unsure(1) };
    let played = |without| played(quiet().asking(0, Request { without, ..whole.clone() }));
    let complete = played(Ablation::Nothing);
    let states = |world: &World| moments(world, |entry| matches!(entry, Entry::Transmitted(_, ToCloud::States { .. })));
    let asks = |world: &World| moments(world, |entry| matches!(entry, Entry::Transmitted(_, ToCloud::Ask(_))));
    for (without, uploaded) in [
        (Ablation::ParallelUpload, 8 + 15),
        (Ablation::HalfPrecision, 8 + 15),
        (Ablation::ContextManager, (8..8 + 16).sum::<u32>()),
    ] {
        let world = played(without);
        assert_eq!(world.answer(1).tokens.len(), 16, "{without:?}");
        assert_eq!(stats(&world, 1).positions_uploaded, uploaded, "{without:?}");
        let asked = asks(&world);
        let late = states(&world).iter().all(|moment| asked.contains(moment));
        assert_eq!(late, without != Ablation::HalfPrecision, "{without:?}: states leave with the asks");
    }
    let asked = asks(&complete);
    assert!(states(&complete).iter().any(|moment| !asked.contains(moment)), "states leave before the asks");
}

#[test]
fn only_collaboration_can_leave_something_out() {
    let naive = Request { mode: Mode::Naive, without: Ablation::HalfPrecision, ..unsure(1) };
    let world = played(quiet().asking(0, naive));
    let refusal =
        |entry: &Entry| matches!(entry, Entry::Submitted(_, Err(SubmitError::Ablation(Ablation::HalfPrecision))));
    assert!(world.log().iter().any(|(_, entry)| refusal(entry)));
}

#[test]
fn in_cloud_mode_one_question_brings_all_tokens() {
    let world = played(quiet().asking(0, Request { mode: Mode::Cloud, ..unsure(1) }));
    let stats = stats(&world, 1);
    assert_eq!((stats.asks, stats.cloud_tokens, stats.positions_uploaded), (1, 16, 8));
    let asked = moments(&world, |entry| matches!(entry, Entry::JobStarted(..)));
    assert!(asked.is_empty(), "the edge computes nothing");
}

#[test]
fn alone_by_choice_speaks_to_nobody() {
    let standalone = Request { mode: Mode::Standalone, ..unsure(1) };
    let world = played(quiet().asking(0, standalone));
    assert!(connects(&world).is_empty());
    assert_eq!(sources(&world.answer(1).tokens), [Source::Exit2; 16]);
    let mut plan = quiet().asking(0, Request { mode: Mode::Whole, ..unsure(1) });
    plan.edges[0].config.second = SecondStage::Whole;
    let world = played(plan);
    assert_eq!(sources(&world.answer(1).tokens), [Source::Whole; 16]);
    assert!(connects(&world).is_empty());
}

#[test]
fn a_failing_engine_fails_the_answers_that_it_was_working_on() {
    let mut plan = quiet().asking(0, unsure(1)).asking(0, unsure(2)).asking(1000, unsure(3));
    plan.edges[0].failing_calls = vec![2];
    plan.exact = false;
    let world = played(plan);
    let failed: Vec<u128> = (1..=3).filter(|session| matches!(world.answer(*session).end, Some(Err(_)))).collect();
    assert_eq!(failed, [1, 2], "both had rows in the call, and the third came later");
}

/// Sessions in each batch of an edge.
fn batches(world: &World) -> Vec<usize> {
    let batch = |(_, entry): &(Time, Entry)| match entry {
        Entry::JobsDone(batch) => Some(batch.jobs.len()),
        _ => None,
    };
    world.log().iter().filter_map(batch).collect()
}

#[test]
fn sessions_share_the_engine_and_fall_into_step() {
    let alone = Request { mode: Mode::Standalone, tokens_max: 32, ..unsure(1) };
    let at_once = |session| Request { session: SessionId(session), ..alone.clone() };
    let plan = quiet().asking(0, at_once(1)).asking(3, at_once(2)).asking(50, at_once(3)).asking(50, at_once(4));
    let batches = batches(&played(plan));
    let full = batches.iter().filter(|sessions| **sessions == 4).count();
    assert!(full > 30, "four answers of 32 tokens, nearly all at the same time: {batches:?}");
    assert!(batches.len() < 2 * 32 + 30, "{} batches", batches.len());
}

#[test]
fn a_long_prompt_does_not_hold_up_the_others() {
    let short = Request { mode: Mode::Standalone, tokens_max: 60, ..unsure(1) };
    let long = Request { session: SessionId(2), prompt: [TokenId(7); 100].to_vec(), tokens_max: 1, ..short.clone() };
    let mut plan = quiet().asking(0, short).asking(30, long);
    plan.edges[0].config.job_rows_max = 4;
    let world = played(plan);
    let told = |session| {
        moments(&world, |entry| matches!(entry, Entry::Told(id, Event::Token(_)) if *id == SessionId(session)))
    };
    let (begun, done) = (ms(30), told(2)[0]);
    let meanwhile = told(1).iter().filter(|at| **at > begun && **at < done).count();
    assert!(meanwhile >= 100 / 4 - 1, "one token beside each piece of the prompt or so, not {meanwhile}");
}

#[test]
fn a_requester_that_leaves_stops_the_work_at_once() {
    let endless = |session| Request { tokens_max: 100, ..unsure(session) };
    let plan = quiet().asking(0, endless(1)).asking(0, endless(2)).suffering(100, Fault::Cancel(SessionId(1)));
    let mut world = World::new(plan);
    let mut released = None;
    while world.step() {
        let held = world.occupancy(0).expect("the cloud lives").contexts;
        if world.now().0 > ms(100) && held == 1 {
            released.get_or_insert(world.now().0);
        }
    }
    let later = |entry: &Entry| matches!(entry, Entry::JobStarted(session, _) if *session == SessionId(1));
    assert!(moments(&world, later).into_iter().all(|at| at <= ms(100)), "the edge computes for nobody");
    assert_eq!(released, Some(ms(100 + LATENCY_MS)), "the cloud forgets as soon as it is told");
}

#[test]
fn a_failing_engine_in_the_cloud_costs_a_replay() {
    let mut plan = quiet().asking(0, Request { tokens_max: 60, ..unsure(1) });
    plan.clouds[0].failing_calls = vec![9];
    plan.exact = false;
    let world = played(plan);
    let losses = losses(&world, 1);
    assert!(
        matches!(&losses[..], [(_, Loss::Refused(refusal))] if refusal.code == RefusalCode::Internal),
        "{losses:?}"
    );
    let stats = stats(&world, 1);
    assert!(stats.degraded_tokens > 0 && stats.positions_replayed >= 8, "{stats:?}");
    assert_eq!(world.answer(1).tokens.last().map(|token| token.source), Some(Source::Cloud));
}

#[test]
fn answers_end_where_the_context_ends() {
    let mut plan = quiet().asking(0, Request { tokens_max: 1000, ..unsure(1) });
    plan.edges[0].config.context = 20;
    let world = played(plan);
    assert_eq!(world.answer(1).tokens.last().map(|token| token.position), Some(Position(19)));
    assert!(matches!(world.answer(1).end, Some(Ok((FinishReason::Context, _)))));
}

/// Two turns of one conversation, of an edge that keeps sessions.
fn conversation(keep: Duration, second_at_ms: u64) -> Plan {
    let first = unsure(1);
    let second = Request { session: SessionId(2), prompt: [&first.prompt[..], &[TokenId(3); 5]].concat(), ..unsure(1) };
    let mut plan = quiet().asking(0, first).asking(second_at_ms, second);
    plan.edges[0].config.keep = keep;
    plan
}

#[test]
fn a_follow_up_goes_on_from_the_last_prompt() {
    let world = played(conversation(ms(5_000), 2_000));
    let stats = stats(&world, 2);
    // Blocks of 4 of a prompt of 8, then of one of 13.
    assert_eq!((stats.prompt_tokens, stats.cached_tokens), (13, 8));
    assert_eq!(stats.positions_uploaded, 5 + 15, "what the cloud has is not sent again");
    assert_eq!(connects(&world).len(), 1, "on the same stream");
}

#[test]
fn a_session_that_nobody_comes_back_to_is_forgotten_at_its_deadline() {
    let world = played(conversation(ms(300), 60_000));
    let moment = |kind: fn(&Entry) -> bool| moments(&world, kind)[0];
    let finished = moment(|entry| matches!(entry, Entry::Told(_, Event::Finished(..))));
    let closed = moment(|entry| matches!(entry, Entry::Transmitted(_, ToCloud::Close)));
    assert_eq!(closed, finished + ms(300));
    assert_eq!(stats(&world, 2).cached_tokens, 0);
}

#[test]
fn a_session_that_is_kept_gives_way_to_whoever_needs_its_place() {
    let mut plan = conversation(ms(60_000), 5_000).asking(2_000, unsure(3));
    plan.edges[0].config.slots = 1;
    let world = played(plan);
    let waited = moments(&world, |entry| matches!(entry, Entry::JobStarted(session, _) if *session == SessionId(3)))[0];
    assert_eq!(waited, ms(2_000), "it need not wait");
    assert_eq!(stats(&world, 2).cached_tokens, 0);
}

#[test]
fn a_cloud_that_drains_does_not_wait_for_follow_ups() {
    let plan = conversation(ms(60_000), 5_000).suffering(2_000, Fault::Drain { cloud: 0 });
    let mut world = World::new(plan);
    while world.now().0 <= ms(2_000) && world.step() {}
    assert_eq!(world.occupancy(0).map(|held| (held.peers, held.contexts)), Some((0, 0)));
    world.run();
    assert_eq!(stats(&world, 2).cached_tokens, 8, "the edge has kept its share");
}
