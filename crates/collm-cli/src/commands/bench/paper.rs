//! `collm bench paper`: the paper's table on our model, what each part of its method is worth, and what ours adds.

use collm_core::{
    edge::Ablation,
    policy::{Mode, Threshold},
};
use serde::Serialize;

use super::{
    answering::{CLOUD_ONLY, Figures, Judged, Plan, Row, STANDALONE, Variant, carry_out, figures, rtt_ms},
    subject::Subject,
};
use crate::{
    args::{AheadChoice, BenchPaperArgs, values::Auto},
    bars, prompts,
    ui::{self, progress::ProgressMode, table},
};

/// The paper's own way, which ablations and our additions are compared with.
const BASE: &str = "collaborative 0.8, standing still";

/// What decides which answers there are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Settings<'a> {
    experiment: &'static str,
    #[serde(flatten)]
    subject: Subject<'a>,
    category: Option<&'a str>,
    slow_limit: usize,
    rtt_ms: f64,
    bandwidth: String,
}

pub(super) fn run(args: &BenchPaperArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let plan = plan(args)?;
    let (experiment, judged) = carry_out(&plan, &args.common, &settings(args, &plan)?, progress)?;
    let summary = summarize(&plan, experiment.rows(), &judged);
    experiment.publish(&summary, charts(&summary))?;
    ui::print::line(format_args!("{}\n\n{}", render(&summary), verdict(&summary)))?;
    Ok(())
}

fn plan(args: &BenchPaperArgs) -> anyhow::Result<Plan> {
    let sizes = args.sizes();
    let prompts = prompts::read(&args.common.prompts, args.category.as_deref(), sizes.limit)?;
    Ok(Plan {
        prompts,
        rtts: vec![args.rtt],
        variants: variants(),
        slow_limit: sizes.slow_limit,
        bandwidth: args.common.bandwidth,
        tokens_max: sizes.tokens_max,
    })
}

/// The paper's rows, our additions, and the paper's way with one part left out.
fn variants() -> Vec<Variant> {
    let threshold = |value| Auto::Given(Threshold::new(value).expect("the numbers here are none below 0"));
    let together = |name, threshold| Variant::new(name, Mode::Collaborative).at(threshold);
    let still = |name, threshold| together(name, threshold).standing_still();
    let without = |name, ablation| still(name, Auto::Given(Threshold::DEFAULT)).without(ablation);
    vec![
        Variant::new(CLOUD_ONLY, Mode::Cloud),
        Variant::new("naive split", Mode::Naive).slow(),
        Variant::new(STANDALONE, Mode::Standalone),
        still(BASE, Auto::Given(Threshold::DEFAULT)),
        still("collaborative 0.9, standing still", threshold(0.9)),
        still("collaborative 1.0, standing still", threshold(1.0)),
        together("collaborative 0.8", Auto::Given(Threshold::DEFAULT)),
        together("collaborative 0.9", threshold(0.9)),
        together("collaborative auto", Auto::Auto),
        together("collaborative auto, f32", Auto::Auto).without(Ablation::HalfPrecision),
        Variant::new("exact", Mode::Exact),
        together("collaborative auto, no asks foreseen", Auto::Auto).with_cloud(AheadChoice::Answers),
        without("without parallel upload", Ablation::ParallelUpload),
        without("without f16", Ablation::HalfPrecision),
        without("without context manager", Ablation::ContextManager).slow(),
        still("without foreseeing asks", Auto::Given(Threshold::DEFAULT)).with_cloud(AheadChoice::Answers),
        still("without computing ahead", Auto::Given(Threshold::DEFAULT)).with_cloud(AheadChoice::Nothing),
        still("without early exit", Auto::Given(Threshold::NEVER)),
    ]
}

fn settings<'a>(args: &'a BenchPaperArgs, plan: &Plan) -> anyhow::Result<Settings<'a>> {
    Ok(Settings {
        experiment: "paper",
        subject: plan.subject(&args.common)?,
        category: args.category.as_deref(),
        slow_limit: plan.slow_limit,
        rtt_ms: rtt_ms(args.rtt),
        bandwidth: plan.bandwidth.to_string(),
    })
}

fn summarize(plan: &Plan, rows: &[Row], judged: &[Judged]) -> Vec<Figures> {
    let rtt = rtt_ms(plan.rtts[0]);
    let of = |variant: &Variant| figures(rows, judged, rtt, variant.name, [Some(CLOUD_ONLY), Some(BASE)]);
    plan.variants.iter().filter_map(of).collect()
}

fn render(summary: &[Figures]) -> String {
    let header = [
        "way",
        "answers",
        "total s",
        "cloud s",
        "edge s",
        "network s",
        "by the cloud",
        "bytes/answer",
        "first token",
        "ms/token after it",
        "to cloud-only",
        "to the paper's",
        "cloud compute",
        "agrees",
        "ROUGE-L whole",
        "ROUGE-L ref.",
    ];
    table::numbers(&header, summary.iter().map(cells))
}

fn cells(figures: &Figures) -> Vec<String> {
    let ratio = |value: Option<f64>| table::number(value, 2);
    vec![
        figures.variant.clone(),
        figures.answers.to_string(),
        format!("{:.1}", figures.total_s),
        format!("{:.1}", figures.cloud_s),
        format!("{:.1}", figures.edge_s),
        format!("{:.1}", figures.network_s),
        format!("{:.0} %", 100.0 * figures.cloud_token_share),
        ui::size(figures.bytes_per_answer as u64),
        table::number(figures.first_token_ms, 0),
        table::number(figures.time_per_token_ms, 1),
        ratio(figures.time_to_cloud_only),
        ratio(figures.time_to_base),
        ratio(figures.cloud_compute_to_cloud_only),
        format!("{:.1} %", 100.0 * figures.agreement),
        format!("{:.3}", figures.rouge_l_to_whole),
        table::number(figures.rouge_l_to_reference, 3),
    ]
}

/// The paper's gain is 13.81 % of cloud-only's time (its table II, threshold 0.8).
const PAPER_GAIN: f64 = 0.86;

/// How near the model's own words a collaborative answer has to stay to be compared with the paper's gain.
const AGREEMENT_KEPT: f64 = 0.97;

/// Whether the paper's gain is there, where answers are nearly the whole model's.
fn verdict(summary: &[Figures]) -> String {
    let collaborative = summary.iter().filter(|figures| figures.variant.starts_with("collaborative"));
    let kept = collaborative.filter(|figures| figures.agreement >= AGREEMENT_KEPT);
    let timed = kept.filter_map(|figures| Some((figures.time_to_cloud_only?, figures)));
    let Some((ratio, fastest)) = timed.min_by(|one, other| one.0.total_cmp(&other.0)) else {
        return format!("no collaborative way keeps {:.0} % agreement", 100.0 * AGREEMENT_KEPT);
    };
    let outcome = if ratio <= PAPER_GAIN { "the paper's gain is there" } else { "the paper's gain is not there" };
    format!(
        "of the collaborative ways that keep {:.0} % agreement, {} is the fastest: {ratio:.2} of cloud-only's time, where the paper has {PAPER_GAIN}; {outcome}",
        100.0 * AGREEMENT_KEPT,
        fastest.variant
    )
}

fn charts(summary: &[Figures]) -> [(&'static str, String); 3] {
    let bars = |value: fn(&Figures) -> Option<f64>| -> Vec<(&str, f64)> {
        summary.iter().filter_map(|figures| Some((figures.variant.as_str(), value(figures)?))).collect()
    };
    let times = bars(|figures| figures.time_to_cloud_only.or((figures.variant == CLOUD_ONLY).then_some(1.0)));
    let compute =
        bars(|figures| figures.cloud_compute_to_cloud_only.or((figures.variant == CLOUD_ONLY).then_some(1.0)));
    let bytes = bars(|figures| Some(figures.bytes_per_answer / 1024.0));
    [
        ("time.svg", bars::render("Time per token, as a multiple of cloud-only's (median of pairs)", 2, &times)),
        ("cloud-compute.svg", bars::render("Cloud compute, as a multiple of cloud-only's", 2, &compute)),
        ("bytes.svg", bars::render("KiB on the wire per answer", 0, &bytes)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn variants_have_names_of_their_own_and_the_first_is_what_they_are_compared_with() {
        let variants = variants();
        let names: BTreeSet<&str> = variants.iter().map(|variant| variant.name).collect();
        assert_eq!((names.len(), variants[0].name), (variants.len(), CLOUD_ONLY));
        assert!(names.contains(BASE));
        // Which part is left out is told to the edge, and only in the mode that has it.
        for variant in variants.iter().filter(|variant| variant.without != Ablation::Nothing) {
            assert_eq!(variant.mode, Mode::Collaborative, "{}", variant.name);
        }
    }

    #[test]
    fn the_verdict_is_about_the_fastest_way_that_keeps_agreement() {
        let figures = |variant: &str, agreement, ratio| Figures {
            variant: variant.to_owned(),
            agreement,
            time_to_cloud_only: Some(ratio),
            ..Figures::default()
        };
        let kept = figures("collaborative 0.9", 0.98, 0.9);
        let fast = figures("collaborative 0.8", 0.96, 0.5);
        let alone = figures("standalone", 0.99, 0.4);
        let said = verdict(&[fast.clone(), kept.clone(), alone.clone()]);
        assert!(said.contains("collaborative 0.9 is the fastest: 0.90") && said.ends_with("is not there"), "{said}");
        let said = verdict(&[Figures { agreement: 0.99, ..fast.clone() }, kept]);
        assert!(said.contains("0.50 of") && said.ends_with("is there"), "{said}");
        assert!(verdict(&[fast, alone]).starts_with("no collaborative way"));
    }
}
