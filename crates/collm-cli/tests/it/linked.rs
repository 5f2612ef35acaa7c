//! An edge and a cloud with a link between them that a test can change.

use std::time::Duration;

use collm_link::{Link, LinkSpec};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::harness::{Parts, Server, ask};

/// A cloud, an edge, and the link between them.
pub(crate) struct World {
    pub(crate) edge: Server,
    link: Link,
    random: fastrand::Rng,
    /// Carries the link.
    _runtime: Runtime,
    _cloud: Server,
}

impl World {
    pub(crate) fn start(parts: &Parts, cloud: &[&str], edge: &[&str]) -> Self {
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
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        let mut up_to = |ms: u64| Duration::from_millis(self.random.u64(0..=ms));
        let spec = LinkSpec { rtt: up_to(30), jitter: up_to(15), ..LinkSpec::PERFECT };
        self.reshape(spec);
        let answer = ask(&self.edge, question, |_| {});
        assert_eq!(answer["degraded"], false, "{answer}");
        answer
    }

    /// Makes the link another one.
    pub(crate) fn reshape(&self, spec: LinkSpec) {
        self.link.control().reshape(spec).expect("a possible link");
    }
}

/// The question with some fields replaced.
pub(crate) fn with(question: &Value, fields: &Value) -> Value {
    let mut question = question.clone();
    for (name, value) in fields.as_object().expect("fields") {
        question[name] = value.clone();
    }
    question
}

/// A figure of the answer.
pub(crate) fn count(answer: &Value, column: &str) -> u64 {
    answer["stats"][column].as_u64().expect("a count")
}
