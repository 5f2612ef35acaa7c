//! Which crate may depend on which. The table is the architecture; the reason stands beside each rule.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, MetadataCommand};

/// One direction that must hold, and why.
struct Rule {
    demand: Demand,
    why: &'static str,
}

/// What a rule demands. Dependencies for tests count only where a demand says so.
enum Demand {
    /// The crate's direct dependencies are among these.
    AtMost { of: &'static str, allowed: &'static [&'static str] },
    /// The crate reaches none of these, directly or through other crates of the workspace.
    Never { of: &'static [&'static str], reach: &'static [&'static str] },
    /// Only these crates depend directly on it.
    OnlyBy { dependency: &'static str, users: &'static [&'static str] },
    /// Nothing but tests depends on it.
    OnlyInTests { dependency: &'static str },
}

/// The direction table.
const RULES: &[Rule] = &[
    Rule {
        demand: Demand::AtMost { of: "collm-core", allowed: &["bytes", "libm", "thiserror"] },
        why: "the collaboration is pure: it runs in a simulator, under wasm32, and with nothing to mock",
    },
    Rule {
        demand: Demand::Never {
            of: &["collm-engine", "collm-exec", "collm-ggml", "collm-model"],
            reach: &["collm-wire", "collm-node", "collm-http", "tokio", "tonic"],
        },
        why: "tensors and files know nothing of networks, so that they can be tested and replaced without one",
    },
    Rule {
        demand: Demand::Never { of: &["collm-node", "collm-wire", "collm-http"], reach: &["collm-ggml"] },
        why: "drivers run on any engine; their tests must not wait for a build of llama.cpp",
    },
    Rule {
        demand: Demand::OnlyBy { dependency: "llama-cpp-sys-2", users: &["collm-ggml"] },
        why: "one crate knows the C library and has the unsafe code",
    },
    Rule {
        demand: Demand::Never {
            of: &["collm-core", "collm-engine", "collm-exec", "collm-wire"],
            reach: &["serde", "serde_json"],
        },
        why: "core types derive no serialisation; JSON types belong to collm-http and frames to collm-wire",
    },
    Rule {
        demand: Demand::OnlyBy { dependency: "axum", users: &["collm-http"] },
        why: "one crate knows HTTP and the JSON types of its API",
    },
    Rule {
        demand: Demand::OnlyBy { dependency: "tonic", users: &["collm-wire", "collm-node"] },
        why: "the core speaks frames; how they travel is decided in one place",
    },
    Rule {
        demand: Demand::OnlyBy { dependency: "anyhow", users: &["collm-cli", "collm-bench", "xtask"] },
        why: "libraries have error enums that a caller can match; only programs may lump errors together",
    },
    Rule { demand: Demand::OnlyInTests { dependency: "collm-testkit" }, why: "the simulated world must not ship" },
    Rule {
        demand: Demand::Never { of: &["collm-link"], reach: &["collm-core"] },
        why: "the link carries bytes of any program and must not know what they mean",
    },
    Rule {
        demand: Demand::Never { of: &["collm-train"], reach: &["collm-engine", "collm-ggml"] },
        why: "training takes states as numbers: it builds without llama.cpp, and any engine may have computed them",
    },
    Rule {
        demand: Demand::OnlyBy { dependency: "candle-core", users: &["collm-train"] },
        why: "one crate trains; everything that serves runs on the engine",
    },
    Rule {
        demand: Demand::AtMost { of: "collm-stats", allowed: &["fastrand", "statrs", "thiserror"] },
        why: "statistics are pure functions of numbers and words, and can be checked by hand",
    },
];

/// Who depends on whom, as declared in the manifests of the workspace.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// For every crate of the workspace, what it needs outside tests (build scripts included).
    normal: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    pub(crate) fn read(root: &Path) -> anyhow::Result<Self> {
        let metadata = MetadataCommand::new()
            .current_dir(root)
            .no_deps()
            .exec()
            .context("cannot read the workspace's manifests through cargo metadata")?;
        let mut graph = Self::default();
        for package in metadata.packages {
            let needed = package.dependencies.into_iter().filter(|dependency| is_shipped(dependency.kind));
            graph.normal.insert(package.name.to_string(), needed.map(|dependency| dependency.name).collect());
        }
        Ok(graph)
    }

    fn direct(&self, of: &str) -> impl Iterator<Item = &str> {
        self.normal.get(of).into_iter().flatten().map(String::as_str)
    }

    fn users<'a>(&'a self, dependency: &'a str) -> impl Iterator<Item = &'a str> {
        let users = self.normal.iter().filter(move |(_, needed)| needed.contains(dependency));
        users.map(|(name, _)| name.as_str())
    }

    /// The shortest way from one crate to another, both included.
    fn way(&self, from: &str, to: &str) -> Option<Vec<String>> {
        let mut seen = BTreeSet::from([from.to_owned()]);
        let mut ways = std::collections::VecDeque::from([vec![from.to_owned()]]);
        while let Some(way) = ways.pop_front() {
            let last = way.last().expect("a way starts with a crate").clone();
            for next in self.direct(&last) {
                let longer = [way.as_slice(), &[next.to_owned()]].concat();
                if next == to {
                    return Some(longer);
                }
                if seen.insert(next.to_owned()) {
                    ways.push_back(longer);
                }
            }
        }
        None
    }
}

fn is_shipped(kind: DependencyKind) -> bool {
    matches!(kind, DependencyKind::Normal | DependencyKind::Build)
}

/// Complaints about forbidden directions, and about rules for crates that no longer exist.
pub(crate) fn check(graph: &Graph) -> Vec<String> {
    RULES.iter().flat_map(|rule| broken(rule, graph)).collect()
}

fn broken(rule: &Rule, graph: &Graph) -> Vec<String> {
    let complaint = |fact: String| format!("{fact}, but {}", rule.why);
    let facts: Vec<String> = match rule.demand {
        Demand::AtMost { of, allowed } => too_many(graph, of, allowed),
        Demand::Never { of, reach } => reached(graph, of, reach),
        Demand::OnlyBy { dependency, users } => used_elsewhere(graph, dependency, users),
        Demand::OnlyInTests { dependency } => used_elsewhere(graph, dependency, &[]),
    };
    facts.into_iter().map(complaint).collect()
}

fn too_many(graph: &Graph, of: &str, allowed: &[&str]) -> Vec<String> {
    let extra = graph.direct(of).filter(|dependency| !allowed.contains(dependency));
    extra.map(|dependency| format!("{of} depends on {dependency}")).collect()
}

fn reached(graph: &Graph, of: &[&str], reach: &[&str]) -> Vec<String> {
    let pairs = of.iter().flat_map(|from| reach.iter().map(move |to| (*from, *to)));
    pairs.filter_map(|(from, to)| graph.way(from, to)).map(|way| way.join(" depends on ")).collect()
}

fn used_elsewhere(graph: &Graph, dependency: &str, users: &[&str]) -> Vec<String> {
    let strangers = graph.users(dependency).filter(|user| !users.contains(user));
    strangers.map(|user| format!("{user} depends on {dependency}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        for (from, to) in edges {
            graph.normal.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        graph
    }

    /// Every rule of the table, broken once: the edges, and what the complaint must begin with.
    const BROKEN: &[(&[(&str, &str)], &str)] = &[
        (&[("collm-core", "rand")], "collm-core depends on rand"),
        (&[("collm-engine", "helper"), ("helper", "tokio")], "collm-engine depends on helper depends on tokio"),
        (&[("collm-node", "collm-ggml")], "collm-node depends on collm-ggml"),
        (&[("collm-model", "llama-cpp-sys-2")], "collm-model depends on llama-cpp-sys-2"),
        (&[("collm-wire", "serde_json")], "collm-wire depends on serde_json"),
        (&[("collm-cli", "axum")], "collm-cli depends on axum"),
        (&[("collm-cli", "tonic")], "collm-cli depends on tonic"),
        (&[("collm-http", "anyhow")], "collm-http depends on anyhow"),
        (&[("collm-cli", "collm-testkit")], "collm-cli depends on collm-testkit"),
        (&[("collm-link", "collm-core")], "collm-link depends on collm-core"),
        (
            &[("collm-train", "collm-tune"), ("collm-tune", "collm-ggml")],
            "collm-train depends on collm-tune depends on collm-ggml",
        ),
        (&[("collm-tune", "candle-core")], "collm-tune depends on candle-core"),
        (&[("collm-stats", "collm-core")], "collm-stats depends on collm-core"),
    ];

    #[test]
    fn every_rule_can_be_broken() {
        for ((edges, expected), rule) in BROKEN.iter().zip(RULES) {
            let complaints = broken(rule, &graph(edges));
            assert_eq!(complaints, [format!("{expected}, but {}", rule.why)]);
        }
        assert_eq!(BROKEN.len(), RULES.len(), "a rule without a test");
    }

    #[test]
    fn what_the_table_allows_passes() {
        let edges = [("collm-core", "bytes"), ("collm-ggml", "llama-cpp-sys-2"), ("collm-http", "axum")];
        assert_eq!(check(&graph(&edges)), Vec::<String>::new());
    }

    #[test]
    fn cycles_end_the_search() {
        assert_eq!(graph(&[("a", "b"), ("b", "a")]).way("a", "c"), None);
    }
}
