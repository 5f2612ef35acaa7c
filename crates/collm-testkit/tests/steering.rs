//! Budgets and mode auto in virtual time: what must come of them on a link that is known to the microsecond.

use std::time::Duration;

use collm_core::{
    budget::{Budget, Target},
    edge::{AutoChoice, Event, Request, Stats, Token, Verdict},
    policy::{Mode, RunAhead, Threshold},
    time::Time,
};
use collm_engine::scripted::Script;
use collm_testkit::{Entry, Fault, Plan, World, request};

/// Jobs of one row take 2 ms at the edge, so that a position takes 4; one in the cloud takes 2. Answers may be long.
fn quiet(latency_ms: u64) -> Plan {
    let mut plan = Plan::quiet(Script { turn_ends: 0.0, ..Script::default() });
    plan.link.latency = ms(latency_ms);
    plan.edges[0].config.context = 1024;
    plan.edges[0].config.has_exit1 = false;
    plan.clouds[0].config.context = 1024;
    plan
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
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

fn target(text: &str) -> Budget {
    text.parse::<Target>().expect("a target").into()
}

fn within(session: u128, budget: Budget) -> Request {
    Request { budget: Some(budget), tokens_max: 300, stop: vec![], ..request(session, 0.8) }
}

/// Asks for all that it may.
fn auto(session: u128) -> Request {
    Request { mode: Mode::Auto, stop: vec![], ..request(session, 2.0) }
}

fn choices(world: &World, sessions: impl IntoIterator<Item = u128>) -> Vec<AutoChoice> {
    sessions.into_iter().map(|session| stats(world, session).choice.expect("in mode auto")).collect()
}

#[test]
fn a_share_of_the_tokens_is_asked_about() {
    for (share, allowed) in [(0, 0), (5, 15), (20, 60), (50, 150), (100, 300)] {
        for run_ahead in [RunAhead::Never, RunAhead::DEFAULT] {
            let budget = target(&format!("cloud={share}%"));
            let world = played(quiet(10).asking(0, Request { run_ahead, ..within(1, budget) }));
            let stats = stats(&world, 1);
            let report = stats.budget.expect("a budget");
            assert!(report.kept && report.budget == budget, "{stats:?}");
            assert!(stats.cloud_tokens + 6 >= allowed, "{share} %, and {} asked", stats.cloud_tokens);
        }
    }
}

#[test]
fn a_time_per_token_is_kept_where_the_link_allows_it() {
    // An ask that is waited for adds 22 ms to the 4 of a position, and one for each position since the last ask.
    for (target_ms, at_least) in [(5, 1), (8, 25), (15, 100), (40, 300)] {
        for run_ahead in [RunAhead::Never, RunAhead::DEFAULT] {
            let budget = target(&format!("tpot={target_ms}ms"));
            let world = played(quiet(10).asking(0, Request { run_ahead, ..within(1, budget) }));
            let stats = stats(&world, 1);
            let per_token = stats.time_per_token().expect("tokens");
            assert!(stats.budget.is_some_and(|report| report.kept), "{per_token:?} of {target_ms} ms");
            assert!(per_token <= ms(target_ms), "{per_token:?} of {target_ms} ms");
            assert!(stats.cloud_tokens >= at_least, "{target_ms} ms leave room for more than {}", stats.cloud_tokens);
        }
    }
}

/// From the first token to the end, of an edge's first answer and of one that it makes when that is over.
fn decoding(latency_ms: u64, agrees: f32, run_ahead: RunAhead) -> [Duration; 2] {
    let mut plan = quiet(latency_ms);
    plan.script.exit2_agrees = agrees;
    let asked = |session| Request { run_ahead, tokens_max: 200, stop: vec![], ..request(session, 2.0) };
    let world = played(plan.asking(0, asked(1)).asking(60_000, asked(2)));
    [1, 2].map(|session| {
        let stats = stats(&world, session);
        stats.total - stats.first_token.expect("tokens")
    })
}

#[test]
fn running_ahead_is_no_slower_than_standing_still_and_notices_when_it_does_not_pay() {
    for latency in [0, 1, 3, 10, 40] {
        for agrees in [0.0, 0.3, 0.7, 1.0] {
            let [ahead, still] = [RunAhead::DEFAULT, RunAhead::Never].map(|how| decoding(latency, agrees, how));
            let told = format!("{ahead:?} of {still:?} at {latency} ms, {agrees} of the guesses right");
            assert!(ahead[0] <= still[0].mul_f64(1.1), "while it learns: {told}");
            assert!(ahead[1] <= still[1].mul_f64(1.03), "{told}");
            // Where guesses are right, what is hidden is nearly all of the way.
            assert!(agrees < 1.0 || latency < 10 || ahead[1] < still[1].mul_f64(0.4), "{told}");
        }
    }
}

#[test]
fn what_cannot_be_kept_is_said_and_the_least_threshold_holds() {
    let threshold_min = Threshold::new(0.6).expect("a threshold");
    let budget = Budget { threshold_min, ..target("tpot=4ms") };
    let world = played(quiet(10).asking(0, within(1, budget)));
    let report = stats(&world, 1).budget.expect("a budget");
    assert!(!report.kept && report.last == threshold_min, "{report:?}");
    let unsure = |token: &Token| token.policy.exit2 == threshold_min;
    assert!(world.answer(1).tokens.iter().skip(30).all(unsure));
}

#[test]
fn budgets_change_no_answer_without_one() {
    let plain = Request { tokens_max: 100, ..within(2, target("cloud=5%")) };
    let plain = Request { budget: None, ..plain };
    let beside = played(quiet(10).asking(0, within(1, target("cloud=5%"))).asking(0, plain.clone()));
    let alone = played(quiet(10).asking(0, plain));
    assert_eq!(beside.answer(2).ids(), alone.answer(2).ids());
}

#[test]
fn auto_collaborates_on_a_good_link() {
    let world = played(quiet(10).asking(0, auto(1)).asking(2_000, auto(2)));
    assert_eq!(choices(&world, [1, 2]), [AutoChoice::Worthwhile; 2]);
    assert_eq!(stats(&world, 2).cloud_tokens, 16);
}

#[test]
fn auto_falls_to_the_edge_on_a_link_that_is_too_far_and_probes_it_now_and_then() {
    let plan = quiet(400).asking(0, auto(1)).asking(8_000, auto(2)).asking(20_000, auto(3)).asking(30_000, auto(4));
    let world = played(plan);
    let fell = stats(&world, 1);
    assert!(matches!(fell.choice, Some(AutoChoice::TooSlow { alone, .. }) if alone == ms(4)), "{fell:?}");
    let after = fell.fell_after.expect("while it was made");
    assert!((4..8).contains(&after), "as soon as enough was measured: {after}");
    assert_eq!((fell.answer_tokens(), fell.degraded_tokens), (16, 0), "chosen, and not for want of a cloud");
    let second = stats(&world, 2);
    assert_eq!((second.connections, second.asks, second.fell_after), (0, 0, None), "nothing left the edge");
    assert_eq!(second.verdict(), Some(Verdict::Unused));
    assert!(stats(&world, 3).asks >= 4, "the probe");
    assert_eq!(stats(&world, 4).asks, 0, "the pause has grown");
}

#[test]
fn auto_notices_a_link_that_got_good_again() {
    // For eight seconds everything to and from the cloud comes late.
    let plan = quiet(10).asking(0, auto(1)).asking(9_000, auto(2)).asking(30_000, auto(3)).asking(31_000, auto(4));
    let mut plan = plan.suffering(200, Fault::Hold { cloud: 0, lasting: Duration::from_secs(8) });
    plan.edges[0].config.ask_deadline = Duration::from_secs(60);
    plan.edges[0].requests[0].1.tokens_max = 64;
    let world = played(plan);
    assert!(!choices(&world, [1])[0].uses_cloud() && !choices(&world, [2])[0].uses_cloud());
    assert_eq!(choices(&world, [3, 4]), [AutoChoice::Worthwhile; 2]);
    assert_eq!(stats(&world, 4).cloud_tokens, 16);
}

#[test]
fn auto_does_not_ask_a_cloud_that_failed_a_moment_ago() {
    let plan = quiet(10).asking(0, auto(1)).asking(1_050, auto(2));
    let mut plan = plan.suffering(10, Fault::Kill { cloud: 0, lasting: Duration::from_secs(20) });
    plan.edges[0].config.breaker.pause_first = Duration::from_secs(5);
    let world = played(plan);
    assert!(stats(&world, 1).degraded_tokens > 0, "it was promised the cloud");
    let second = stats(&world, 2);
    assert_eq!((second.choice, second.degraded_tokens), (Some(AutoChoice::CloudDown), 0));
    let told = |(_, entry): &(Time, Entry)| matches!(entry, Entry::Told(id, Event::Degraded(_)) if id.0 == 2);
    assert!(!world.log().iter().any(told));
}

#[test]
fn the_link_is_estimated_from_the_frames() {
    let world = played(quiet(10).asking(0, Request { mode: Mode::Collaborative, tokens_max: 100, ..auto(1) }));
    let link = stats(&world, 1).link;
    assert_eq!((link.round_trip, link.queued), (Some(ms(20)), Some(ms(0))));
    // The first ask waited for the whole prompt, which is almost forgotten.
    assert!(link.compute.is_some_and(|compute| compute.abs_diff(ms(2)) < ms(1) / 1000), "{link:?}");
}

#[test]
fn an_answer_says_what_it_would_have_cost_elsewhere() {
    let all = Request { mode: Mode::Collaborative, run_ahead: RunAhead::Never, ..auto(1) };
    let world = played(quiet(10).asking(0, all));
    let stats = stats(&world, 1);
    let comparison = stats.comparison.expect("there is a cloud");
    // Prompt of 8: 9 ms in each stage; then 15 positions of 4 ms.
    assert_eq!(comparison.edge_only, Some(ms(9 + 9 + 15 * 4)));
    // Three of four layers took 2 ms for a token.
    let cloud_only = comparison.cloud_only.expect("measured");
    let token = ms(2) * 4 / 3;
    assert!(cloud_only.compute >= token * 15 && cloud_only.total >= cloud_only.compute + ms(20), "{cloud_only:?}");
    assert_eq!(comparison.corrected, Some(stats.rollbacks));
    assert_eq!(stats.verdict(), Some(Verdict::CloudSooner), "it has stood still for every token");
}
