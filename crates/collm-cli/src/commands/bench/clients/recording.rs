//! What an edge says for each prompt, recorded on a quiet machine: it and its cloud have a core each.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use collm_core::policy::Mode;
use collm_node::load::{Recorder, Trace};

use super::super::answering::{CLOUD_ONLY, Variant};
use super::servers;
use crate::{
    args::BenchClientsArgs,
    client::{EdgeClient, Question, Shown},
    commands::{demo::Scene, runtime},
    report::Report,
    ui::progress::ProgressMode,
};

/// Ways of answering, in the order they take turns.
pub(super) const WAYS: [&str; 4] = [CLOUD_ONLY, "collaborative, standing still", "collaborative", "exact"];

/// The traces of every way, in the order of the prompts.
pub(super) struct Recording(BTreeMap<&'static str, Vec<Trace>>);

fn variant(way: &'static str, args: &BenchClientsArgs) -> Variant {
    let collaborative = Variant::new(way, Mode::Collaborative).at(args.threshold);
    match way {
        CLOUD_ONLY => Variant::new(way, Mode::Cloud),
        "exact" => Variant::new(way, Mode::Exact),
        "collaborative" => collaborative,
        _ => collaborative.standing_still(),
    }
}

impl Recording {
    pub(super) fn make(
        scene: &Scene,
        prompts: &[String],
        args: &BenchClientsArgs,
        progress: ProgressMode,
    ) -> anyhow::Result<Self> {
        let runtime = runtime()?;
        let cloud = servers::cloud(scene, 1)?;
        let recorder = runtime.block_on(Recorder::start(&format!("http://{}", cloud.address())))?;
        let edge = servers::edge(scene, &recorder.url())?;
        let client = EdgeClient::new(&format!("http://{}", edge.address()));
        let tokens_max = args.sizes().tokens_max;
        let mut traces: BTreeMap<&'static str, Vec<Trace>> = BTreeMap::new();
        let mut step = progress.step("recording");
        // The first answer opens the connection and touches memory for the first time: it is made once more.
        for (index, prompt) in prompts.iter().take(1).chain(prompts).enumerate() {
            step.count(index, prompts.len() + 1);
            for way in WAYS {
                let question = variant(way, args).question(prompt, tokens_max);
                let tokens = tell(&client, &question, &recorder).with_context(|| format!("{way} failed"))?;
                let trace = runtime.block_on(recorder.end(tokens))?;
                if index > 0 {
                    traces.entry(way).or_default().push(trace);
                }
            }
        }
        step.done("took");
        Ok(Self(traces))
    }

    pub(super) fn traces(&self, way: &str) -> &[Trace] {
        self.0.get(way).map(Vec::as_slice).unwrap_or_default()
    }
}

/// Has the edge answer, and the recorder know of every token. Returns how many there were.
fn tell(client: &EdgeClient, question: &Question, recorder: &Recorder) -> anyhow::Result<usize> {
    recorder.begin();
    let answer = client.ask(question, &mut |shown| {
        if let Shown::Text { .. } = shown {
            recorder.told();
        }
        Ok(())
    })?;
    let report: Report = serde_json::from_value(answer).context("the edge's report cannot be read")?;
    ensure!(report.stats.degraded_tokens == 0, "the edge lost its cloud");
    Ok(report.tokens.len())
}
