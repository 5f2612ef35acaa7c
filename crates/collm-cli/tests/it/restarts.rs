//! The cloud process is killed and started again at 50 random moments of answers. Every answer is complete, and every token
//! is what the policy gives at that place, whoever was there to decide it.

use serde_json::json;

use crate::{
    harness::{Parts, Server, ask, free_address, question},
    reference::Reference,
};

const KILLS: usize = 50;
const TOKENS: u32 = 48;
const THRESHOLD: f32 = 0.8;
const SEED: u64 = 0x5eed;

const PROMPTS: [&str; 5] = [
    "Explain why the sea is salty.",
    "Write a short story about a fox and a crow.",
    "What should I pack for a week in the mountains?",
    "List five facts about the moon.",
    "How does a bicycle stay upright?",
];

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
    let (mut degraded, mut decided_by_cloud, mut replayed, mut reconnections) = (0, 0, 0, 0);
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
        let mut question = question(prompt, TOKENS);
        question["threshold"] = json!(THRESHOLD);
        let answer = ask(&edge, &question, |line| {
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
            "round {round}: {answer}"
        );
        let here = reference.check(prompt, &answer, THRESHOLD);
        assert_eq!(answer["degraded"], here > 0, "round {round}: {answer}");
        degraded += here;
        decided_by_cloud += answer["stats"]["cloud_tokens"].as_u64().expect("a count");
        replayed += answer["stats"]["positions_replayed"].as_u64().expect("a count");
        reconnections += answer["stats"]["connections"].as_u64().expect("a count").saturating_sub(1);
    }
    println!(
        "{KILLS} kills: {decided_by_cloud} tokens by the cloud, {degraded} degraded, {reconnections} reconnections, \
         {replayed} positions replayed"
    );
    // Or the kills were no kills.
    assert!(degraded > 0 && decided_by_cloud > 0, "{degraded} degraded, {decided_by_cloud} by the cloud");
    // Or no answer lived to see the cloud's return.
    assert!(reconnections > 0 && replayed > 0, "{reconnections} reconnections, {replayed} positions replayed");
}
