//! The laws that make distance harmless, on real weights with fitted exits: guessing ahead says what standing still says, and
//! exact answers are the whole model's. The link's delay is another one for every answer, and random within it.

use serde_json::{Value, json};

use crate::{
    harness::{MODEL, Parts, Server, ask, question},
    linked::{World, count, with},
};

const TOKENS: u32 = 40;

const PROMPTS: [&str; 2] = ["Explain why the sea is salty.", "Write a short story about a fox and a crow."];

/// Every prompt, greedy and drawn.
fn questions() -> impl Iterator<Item = Value> {
    PROMPTS.into_iter().flat_map(|prompt| {
        let greedy = question(prompt, TOKENS);
        let mut drawn = greedy.clone();
        drawn["temperature"] = json!(0.8);
        drawn["top_p"] = json!(0.95);
        drawn["seed"] = json!(7);
        [greedy, drawn]
    })
}

/// What was said, by whom, and how sure they were.
fn said(answer: &Value) -> Vec<(&Value, &Value, &Value)> {
    let tokens = answer["tokens"].as_array().expect("tokens").iter();
    tokens.map(|token| (&token["id"], &token["source"], &token["confidence"])).collect()
}

fn ids(answer: &Value) -> Vec<&Value> {
    said(answer).into_iter().map(|(id, ..)| id).collect()
}

#[test]
fn guessing_ahead_says_what_standing_still_says_at_any_threshold_and_distance() {
    let parts = Parts::split_with(&[]);
    let mut world = World::start(&parts, &["--part", &parts.cloud()], &[]);
    let (mut waits_still, mut waits_ahead, mut rollbacks) = (0, 0, 0);
    for question in questions() {
        for way in
            [json!({"threshold": 0.5}), json!({"threshold": 0.8}), json!({"threshold": 0.95}), json!({"mode": "exact"})]
        {
            let question = with(&question, &way);
            let still = world.ask(&with(&question, &json!({"run_ahead": false})));
            let ahead = world.ask(&question);
            assert_eq!(said(&ahead), said(&still), "{way}");
            waits_still += count(&still, "round_trips_waited");
            waits_ahead += count(&ahead, "round_trips_waited");
            rollbacks += count(&ahead, "rollbacks");
        }
    }
    // Or nobody guessed ahead, or no guess was ever wrong.
    assert!(waits_ahead < waits_still && rollbacks > 0, "{waits_ahead} of {waits_still} waits, {rollbacks} rollbacks");
}

#[test]
fn exact_answers_are_the_whole_models_whatever_is_uploaded_and_however_far_the_cloud() {
    let parts = Parts::split_with(&[]);
    let whole = Server::start(&["edge", "--model", MODEL, "--listen", "127.0.0.1:0"]);
    let cloud = ["--model", MODEL];
    let mut worlds = ["states", "tokens"].map(|upload| World::start(&parts, &cloud, &["--exact-upload", upload]));
    let mut rollbacks = 0;
    for question in questions() {
        let expected = ask(&whole, &question, |_| {});
        for world in &mut worlds {
            let exact = world.ask(&with(&question, &json!({"mode": "exact"})));
            assert_eq!(ids(&exact), ids(&expected));
            rollbacks += count(&exact, "rollbacks");
        }
    }
    // Or the edge's guesses were never tried.
    assert!(rollbacks > 0);
}

#[test]
fn a_follow_up_says_what_it_would_say_if_nothing_were_kept() {
    let parts = Parts::split_with(&[]);
    let mut worlds = ["5min", "0s"].map(|keep| World::start(&parts, &["--part", &parts.cloud()], &["--keep", keep]));
    // The longer of them goes on for some blocks.
    let questions = ["And in one word?".to_owned(), "Is the sea wide? ".repeat(70)];
    for way in [json!({"mode": "exact"}), json!({"threshold": 0.8}), json!({"mode": "standalone"})] {
        for next in &questions {
            let first = with(&question(PROMPTS[0], TOKENS), &way);
            let [before, _] = worlds.each_mut().map(|world| world.ask(&first));
            let messages = json!([
                { "role": "user", "content": PROMPTS[0] },
                { "role": "assistant", "content": before["text"] },
                { "role": "user", "content": next },
            ]);
            let second = with(&first, &json!({ "messages": messages }));
            let [kept, fresh] = worlds.each_mut().map(|world| world.ask(&second));
            assert_eq!(said(&kept), said(&fresh), "{way}");
            let [kept, fresh] = [kept, fresh].map(|answer| count(&answer, "cached_tokens"));
            let prompt_tokens = count(&before, "prompt_tokens");
            assert!(
                kept > prompt_tokens && fresh == 0,
                "{kept} of a prompt of {prompt_tokens} and its answer, {fresh}"
            );
        }
    }
}
