//! The cloud process is killed and started again at 50 random moments of answers, at three thresholds and in mode exact, greedy and
//! drawn with a seed. Every answer is complete, and every token is what the policy gives at that place, whoever was there to decide it.

use collm_core::sampling::Sampling;
use serde_json::{Value, json};

use crate::{
    harness::{Parts, Server, ask, free_address, question},
    reference::{Reference, Way},
};

const KILLS: usize = 50;
const TOKENS: u32 = 48;
const SEED: u64 = 0x5eed;

const PROMPTS: [&str; 5] = [
    "Explain why the sea is salty.",
    "Write a short story about a fox and a crow.",
    "What should I pack for a week in the mountains?",
    "List five facts about the moon.",
    "How does a bicycle stay upright?",
];

/// Every threshold and mode exact, each of them drawn in every second turn.
fn way(round: usize) -> Way {
    let thresholds = [Some(0.5), Some(0.8), Some(0.95), None];
    let threshold = thresholds[round % thresholds.len()];
    let drawn = Sampling { temperature: 0.8, top_p: 0.95, seed: round as u64, ..Sampling::GREEDY };
    let sampling = if (round / thresholds.len()).is_multiple_of(2) { Sampling::GREEDY } else { drawn };
    Way { exact: threshold.is_none(), threshold: threshold.unwrap_or_default(), sampling }
}

fn asked(prompt: &str, way: &Way) -> Value {
    let mut question = question(prompt, TOKENS);
    let Way { exact, threshold, sampling } = way;
    if *exact {
        question["mode"] = json!("exact");
    } else {
        question["threshold"] = json!(threshold);
    }
    question["temperature"] = json!(sampling.temperature);
    question["top_p"] = json!(sampling.top_p);
    question["seed"] = json!(sampling.seed);
    question
}

/// A cloud that can be killed and started again where it was.
struct Cloud {
    part: String,
    address: String,
    process: Option<Server>,
}

impl Cloud {
    fn start(parts: &Parts) -> Self {
        let mut cloud = Self { part: parts.cloud(), address: free_address(), process: None };
        cloud.restart();
        cloud
    }

    fn kill(&mut self) {
        self.process = None;
    }

    fn restart(&mut self) {
        self.process = Some(Server::start(&["cloud", "--part", &self.part, "--listen", &self.address]));
    }
}

#[test]
fn no_token_is_wrong_however_often_the_cloud_dies() {
    let parts = Parts::split();
    let mut cloud = Cloud::start(&parts);
    let url = format!("http://{}", cloud.address);
    let edge = Server::start(&[
        "edge",
        "--part",
        &parts.edge(),
        "--cloud",
        &url,
        "--listen",
        "127.0.0.1:0",
        "--deadline",
        "2s",
    ]);
    let mut reference = Reference::load(&parts);
    let mut random = fastrand::Rng::with_seed(SEED);
    let (mut replayed, mut reconnections) = (0, 0);
    // Degraded and decided by the cloud: collaborative and exact, each greedy and drawn.
    let mut tokens = [[0; 2]; 4];
    for round in 0..KILLS {
        let prompt = PROMPTS[round % PROMPTS.len()];
        let dies_after = random.u32(0..TOKENS);
        let returns_after = dies_after + random.u32(0..8);
        let mut seen = 0;
        let mut step = |cloud: &mut Cloud| {
            if seen == dies_after {
                cloud.kill();
            }
            if seen == returns_after {
                cloud.restart();
            }
            seen += 1;
        };
        step(&mut cloud);
        let way = way(round);
        let answer = ask(&edge, &asked(prompt, &way), |line| {
            if line["type"] == "token" {
                step(&mut cloud);
            }
        });
        // An answer that ended before the cloud's return leaves it dead; the next one deserves a living one.
        if cloud.process.is_none() {
            cloud.restart();
        }
        assert!(
            ["stop", "length"].contains(&answer["finish_reason"].as_str().expect("a reason")),
            "round {round}, {way:?}: {answer}"
        );
        let here = reference.check(prompt, &answer, &way);
        assert_eq!(answer["degraded"], here > 0, "round {round}: {answer}");
        let kind = 2 * usize::from(way.exact) + usize::from(way.sampling != Sampling::GREEDY);
        tokens[kind][0] += here as u64;
        tokens[kind][1] += answer["stats"]["cloud_tokens"].as_u64().expect("a count");
        replayed += answer["stats"]["positions_replayed"].as_u64().expect("a count");
        reconnections += answer["stats"]["connections"].as_u64().expect("a count").saturating_sub(1);
    }
    println!(
        "{KILLS} kills: {tokens:?} tokens degraded and by the cloud, {reconnections} reconnections, {replayed} positions \
         replayed"
    );
    // Or the kills were no kills.
    assert!(tokens.iter().flatten().all(|count| *count > 0), "{tokens:?} degraded and by the cloud");
    // Or no answer lived to see the cloud's return.
    assert!(reconnections > 0 && replayed > 0, "{reconnections} reconnections, {replayed} positions replayed");
}
