//! Budgets and mode auto on real weights, as processes, over a link that changes: what is asked follows what was wished for and what
//! the link is like, and the answer says so.

use std::time::{Duration, Instant};

use collm_link::LinkSpec;
use serde_json::{Value, json};

use crate::{
    harness::{Parts, ask, question},
    linked::{World, count, with},
};

const PROMPT: &str = "Write a short story about a fox and a crow.";

/// So far away that no ask is worth its wait.
const FAR: LinkSpec = LinkSpec { rtt: Duration::from_secs(2), ..LinkSpec::PERFECT };

/// A probe comes ten seconds after the link was given up; more than any machine needs for it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Of the tokens, those that the cloud was asked about.
fn share_asked(answer: &Value) -> f64 {
    answer["stats"]["cloud_share"].as_f64().expect("a share")
}

#[test]
fn a_share_of_the_cloud_is_kept_by_a_threshold_that_moves() {
    let parts = Parts::split_with(&[]);
    let mut world = World::start(&parts, &["--part", &parts.cloud()], &[]);
    let question = question(PROMPT, 100);
    let plain = world.ask(&with(&question, &json!({"threshold": 0.9})));
    assert!(share_asked(&plain) > 0.3, "there is something to save: {}", plain["stats"]);
    let budgeted = world.ask(&with(&question, &json!({"budget": "cloud=20%"})));
    let (share, budget) = (share_asked(&budgeted), &budgeted["stats"]["budget"]);
    assert!((0.1..=0.22).contains(&share), "as much is asked as may be, and no more: {share}");
    assert_eq!((&budget["target"], &budget["kept"]), (&json!("cloud=20%"), &json!(true)));
    assert!(budget["threshold_lowest"].as_f64() < budget["threshold_highest"].as_f64(), "{budget}");
}

#[test]
fn a_time_that_leaves_no_room_asks_nothing_below_the_lowest_threshold() {
    let parts = Parts::split_with(&[]);
    let mut world = World::start(&parts, &["--part", &parts.cloud()], &[]);
    let question = question(PROMPT, 60);
    let hurried = world.ask(&with(&question, &json!({"budget": "tpot=1ms"})));
    let careful = world.ask(&with(&question, &json!({"budget": {"tpot_ms": 1, "threshold_min": 0.8}})));
    let leisurely = world.ask(&with(&question, &json!({"budget": {"tpot_ms": 600_000, "threshold_min": 0.8}})));
    assert_eq!(hurried["stats"]["budget"]["kept"], false, "no model says a token in a millisecond");
    let shares = [&hurried, &careful, &leisurely].map(share_asked);
    assert!(shares[0] < shares[1] && shares[1] < shares[2], "{shares:?}");
    assert_eq!(shares[2], 1.0, "ten minutes a token leave time to ask about each");
}

#[test]
fn auto_leaves_a_link_that_got_too_far_and_comes_back_when_it_is_near_again() {
    let parts = Parts::split_with(&[]);
    let world = World::start(&parts, &["--part", &parts.cloud()], &[]);
    // Few asks, so that a near link is near enough on a busy machine, too.
    let question = with(&question(PROMPT, 40), &json!({"mode": "auto", "threshold": 0.7}));
    let reason = |answer: &Value| answer["stats"]["auto"]["reason"].as_str().expect("a reason").to_owned();

    world.reshape(FAR);
    let first = ask(&world.edge, &question, |_| {});
    assert!(first["stats"]["auto"]["fell_after"].is_u64(), "it was far: {}", first["stats"]);
    let far = ask(&world.edge, &question, |_| {});
    assert_eq!((reason(&far).as_str(), count(&far, "asks")), ("too_slow", 0));
    assert_eq!(far["degraded"], false, "it was chosen, nothing failed");
    assert!(far["stats"]["auto"]["sentence"].as_str().is_some_and(|why| why.starts_with("at the edge, since")));

    world.reshape(LinkSpec::PERFECT);
    let began = Instant::now();
    let back = loop {
        let answer = ask(&world.edge, &question, |_| {});
        if answer["stats"]["auto"]["cloud"] == true {
            break answer;
        }
        assert!(began.elapsed() < PATIENCE, "nobody looked whether the link is near again: {}", answer["stats"]);
        std::thread::sleep(Duration::from_secs(1));
    };
    // The first of them finds out, and says in the end what it found.
    assert!(
        ["probing", "worthwhile"].contains(&reason(&back).as_str()) && count(&back, "asks") > 0,
        "{}",
        back["stats"]
    );
}
