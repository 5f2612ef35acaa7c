//! The laws that make distance harmless, on real weights with fitted exits: guessing ahead says what standing still says, and
//! exact answers are the whole model's. The link's delay is another one for every answer, and random within it.

use std::time::Duration;

use collm_link::{Link, LinkSpec};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::harness::{MODEL, Parts, Server, ask, question};

const TOKENS: u32 = 40;

const PROMPTS: [&str; 2] = ["Explain why the sea is salty.", "Write a short story about a fox and a crow."];

/// A cloud, an edge, and the link between them.
struct World {
    edge: Server,
    link: Link,
    random: fastrand::Rng,
    /// Carries the link.
    _runtime: Runtime,
    _cloud: Server,
}

impl World {
    fn start(parts: &Parts, cloud: &[&str], edge: &[&str]) -> Self {
        let cloud = Server::start(&[&["cloud", "--listen", "127.0.0.1:0"], cloud].concat());
        let runtime = Runtime::new().expect("threads");
        let link = Link::start("127.0.0.1:0", cloud.address.to_string(), LinkSpec::PERFECT);
        let link = runtime.block_on(link).expect("a free port");
        let url = format!("http://{}", link.local_addr());
        // No answer may be degraded because this machine is busy.
        let near = ["edge", "--part", &parts.edge(), "--cloud", &url, "--listen", "127.0.0.1:0", "--deadline", "60s"];
        let edge = Server::start(&[near.as_slice(), edge].concat());
        Self { edge, link, random: fastrand::Rng::with_seed(1), _runtime: runtime, _cloud: cloud }
    }

    /// An answer over a link that is like no other before.
    fn ask(&mut self, question: &Value) -> Value {
        let mut up_to = |ms: u64| Duration::from_millis(self.random.u64(0..=ms));
        let spec = LinkSpec { rtt: up_to(30), jitter: up_to(15), ..LinkSpec::PERFECT };
        self.link.control().reshape(spec).expect("a possible link");
        let answer = ask(&self.edge, question, |_| {});
        assert_eq!(answer["degraded"], false, "{answer}");
        answer
    }
}

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

fn with(question: &Value, fields: &Value) -> Value {
    let mut question = question.clone();
    for (name, value) in fields.as_object().expect("fields") {
        question[name] = value.clone();
    }
    question
}

/// What was said, by whom, and how sure they were.
fn said(answer: &Value) -> Vec<(&Value, &Value, &Value)> {
    let tokens = answer["tokens"].as_array().expect("tokens").iter();
    tokens.map(|token| (&token["id"], &token["source"], &token["confidence"])).collect()
}

fn ids(answer: &Value) -> Vec<&Value> {
    said(answer).into_iter().map(|(id, ..)| id).collect()
}

fn count(answer: &Value, column: &str) -> u64 {
    answer["stats"][column].as_u64().expect("a count")
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
