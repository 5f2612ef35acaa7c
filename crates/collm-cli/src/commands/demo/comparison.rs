//! The same answer in every mode, as a table.

use std::iter;

use anyhow::Context as _;
use collm_core::{ids::TokenId, policy::Mode};

use super::{CONTEXT, Scene, stage::Stage};
use crate::{
    agreement::Judge,
    args::{AheadChoice, DemoArgs},
    client::{EdgeClient, Question},
    report::Report,
    ui::{
        self,
        colour::{FAINT, Painted},
        progress::ProgressMode,
        table,
    },
};

/// One answer in each mode.
pub(super) struct Comparison {
    rows: Vec<(Mode, Report)>,
}

impl Comparison {
    /// Measures all modes. Clouds and edges are exchanged as the modes need them: cloud and whole mode come last.
    pub(super) fn measure(stage: &mut Stage, question: &Question, progress: ProgressMode) -> anyhow::Result<Self> {
        let mut step = progress.step("measuring the same answer in every mode");
        let mut rows = Vec::new();
        for mode in [Mode::Collaborative, Mode::Exact, Mode::Standalone, Mode::Naive, Mode::Cloud, Mode::Whole] {
            step.now(mode.name());
            match mode {
                Mode::Cloud => stage.exchange_cloud(AheadChoice::default())?,
                Mode::Whole => stage.exchange_edge()?,
                Mode::Collaborative | Mode::Exact | Mode::Auto | Mode::Standalone | Mode::Naive => {}
            }
            // Opening a connection and touching memory for the first time are no part of an answer.
            ask(stage.edge(), &question.clone().limited_to(1), mode)
                .with_context(|| format!("mode {} failed", mode.name()))?;
            let report = ask(stage.edge(), question, mode).with_context(|| format!("mode {} failed", mode.name()))?;
            rows.push((mode, report));
        }
        step.done("took");
        rows.sort_by_key(|(mode, _)| Mode::ALL.iter().position(|listed| listed == mode));
        Ok(Self { rows })
    }

    /// The table, what its words mean, and what it shows.
    pub(super) fn render(&self, scene: &Scene, args: &DemoArgs, progress: ProgressMode) -> anyhow::Result<String> {
        let agreement = self.agreement(scene, args, progress)?;
        let modes = self.rows.iter().map(|(mode, _)| mode.name());
        let header: Vec<&str> = iter::once("").chain(modes).collect();
        let columns: Vec<_> =
            self.rows.iter().zip(&agreement).map(|((_, report), agrees)| self.column(report, agrees)).collect();
        let rows = (0..MEASURES.len()).map(|row| {
            let values = columns.iter().map(|column| column[row].clone());
            iter::once(MEASURES[row].to_owned()).chain(values).collect()
        });
        let table = table::numbers(&header, rows);
        Ok(format!("{table}\n\n{}\n\n{}", Painted(FAINT, FOOTNOTE), self.verdict(args)))
    }

    /// What was measured of one answer, in the order of [`MEASURES`].
    fn column(&self, report: &Report, agrees: &[bool]) -> [String; MEASURES.len()] {
        let stats = &report.stats;
        let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), ui::milliseconds);
        [
            ui::milliseconds(stats.total_ms),
            optional(stats.first_token_ms),
            optional(stats.time_per_token_ms),
            ui::milliseconds(stats.edge_compute_ms),
            ui::milliseconds(stats.cloud_compute_ms),
            ui::milliseconds(stats.network_ms),
            ui::size(stats.bytes_up),
            ui::size(stats.bytes_down),
            format!("{:.0} %", 100.0 * stats.cloud_share),
            ui::share(agrees.iter().filter(|agrees| **agrees).count(), agrees.len()),
            if report.text == self.of(Mode::Whole).text { "yes" } else { "no" }.to_owned(),
        ]
    }

    /// For each row, which of its tokens are the whole model's.
    fn agreement(&self, scene: &Scene, args: &DemoArgs, progress: ProgressMode) -> anyhow::Result<Vec<Vec<bool>>> {
        let mut judge = Judge::load(&scene.model.path, CONTEXT as usize, progress)?;
        let prompt = judge.prompt(&args.prompt)?;
        let answers = self.rows.iter().map(|(_, report)| report.tokens.iter().map(|token| TokenId(token.id)).collect());
        answers.map(|answer: Vec<TokenId>| judge.agrees(&prompt, &answer)).collect()
    }

    /// One sentence, computed from the table.
    fn verdict(&self, args: &DemoArgs) -> String {
        let [together, exact, cloud, naive] =
            [Mode::Collaborative, Mode::Exact, Mode::Cloud, Mode::Naive].map(|mode| &self.of(mode).stats);
        format!(
            "With a round trip of {}, the edge decided {:.0} % of the tokens itself and left the cloud {:.0} % of cloud-only's compute; \
             the answer took {} ({} when exact), against {} cloud-only and {} split naively.",
            ui::time(args.rtt),
            100.0 * (1.0 - together.cloud_share),
            100.0 * together.cloud_compute_ms / cloud.cloud_compute_ms,
            ui::milliseconds(together.total_ms),
            ui::milliseconds(exact.total_ms),
            ui::milliseconds(cloud.total_ms),
            ui::milliseconds(naive.total_ms),
        )
    }

    fn of(&self, mode: Mode) -> &Report {
        let row = self.rows.iter().find(|(listed, _)| *listed == mode);
        &row.expect("every mode was measured").1
    }
}

/// Rows of the table.
const MEASURES: [&str; 11] = [
    "total time",
    "time to first token",
    "time per token",
    "edge compute",
    "cloud compute",
    "waited for network",
    "bytes up",
    "bytes down",
    "decided by the cloud",
    "agrees with whole",
    "same text as whole",
];

const FOOTNOTE: &str = "\
One answer a mode, greedy, one core and one thread a process, after a short answer that opened the connection.
waited for network: time the edge stood still for the cloud, less what the cloud spent computing.
agrees with whole: share of tokens that are the whole model's most likely token after the same prompt and the same
answer so far. same text as whole: whether the answer is the whole model's, letter for letter.
Near-ties may fall otherwise where states are rounded to f16 (collaborative).";

fn ask(edge: &EdgeClient, question: &Question, mode: Mode) -> anyhow::Result<Report> {
    let answer = edge.ask(&question.clone().in_mode(mode), &mut |_| Ok(()))?;
    serde_json::from_value(answer).context("the edge's report cannot be read")
}
