//! `collm bench rtt`: what distance costs each way of answering, and where one becomes faster than another.

use collm_core::policy::Mode;
use collm_stats::crossings;
use serde::Serialize;

use super::{
    answering::{CLOUD_ONLY, Figures, Judged, Plan, Row, STANDALONE, Variant, carry_out, figures, rtt_ms, time_ratio},
    subject::Subject,
};
use crate::{
    args::{BenchRttArgs, threshold_name},
    chart::{self, Labels, Series, Spacing},
    prompts,
    ui::{self, progress::ProgressMode, table},
};

/// What decides which answers there are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Settings<'a> {
    experiment: &'static str,
    #[serde(flatten)]
    subject: Subject<'a>,
    rtt_ms: Vec<f64>,
    bandwidth: String,
    threshold: String,
}

/// Figures of every variant at every distance, and where they change places.
#[derive(Debug, Serialize)]
struct Summary {
    figures: Vec<Figures>,
    crossovers: Vec<Crossover>,
}

/// Where one way of answering becomes faster, or slower, than another.
#[derive(Debug, PartialEq, Serialize)]
struct Crossover {
    one: &'static str,
    other: &'static str,
    /// Round-trip times at which neither is faster, as medians over pairs, by straight lines between those measured.
    at_rtt_ms: Vec<f64>,
    /// Who is faster at the smallest distance; `None` if nobody is anywhere.
    faster_near: Option<&'static str>,
}

pub(super) fn run(args: &BenchRttArgs, progress: ProgressMode) -> anyhow::Result<()> {
    let plan = plan(args)?;
    let (experiment, judged) = carry_out(&plan, &args.common, &settings(args, &plan)?, progress)?;
    let summary = summarize(&plan, experiment.rows(), &judged);
    experiment.publish(&summary, [("time-per-token.svg", chart(args, &plan, &summary.figures))])?;
    let figures = &summary.figures;
    ui::print::line(format_args!("{}\n\n{}\n\n{}", render(figures), estimates(figures), told(&summary.crossovers)))?;
    Ok(())
}

fn plan(args: &BenchRttArgs) -> anyhow::Result<Plan> {
    let sizes = args.sizes();
    let prompts = prompts::read(&args.common.prompts, None, sizes.limit)?;
    let mut rtts = args.rtts();
    rtts.sort();
    rtts.dedup();
    Ok(Plan {
        prompts,
        rtts,
        variants: variants(args),
        slow_limit: sizes.limit,
        bandwidth: args.common.bandwidth,
        tokens_max: sizes.tokens_max,
    })
}

fn variants(args: &BenchRttArgs) -> Vec<Variant> {
    let collaborative = |name| Variant::new(name, Mode::Collaborative).at(args.threshold);
    vec![
        Variant::new(CLOUD_ONLY, Mode::Cloud),
        collaborative("collaborative, standing still").standing_still(),
        collaborative("collaborative"),
        Variant::new("exact, standing still", Mode::Exact).standing_still(),
        Variant::new("exact", Mode::Exact),
        Variant::new(STANDALONE, Mode::Standalone),
    ]
}

/// The same mode standing still, for variants that run ahead.
fn still(plan: &Plan, variant: &Variant) -> Option<&'static str> {
    let still = plan.variants.iter().find(|other| other.mode == variant.mode && !other.ahead && variant.ahead);
    still.map(|still| still.name)
}

fn settings<'a>(args: &'a BenchRttArgs, plan: &Plan) -> anyhow::Result<Settings<'a>> {
    Ok(Settings {
        experiment: "rtt",
        subject: plan.subject(&args.common)?,
        rtt_ms: plan.rtts.iter().copied().map(rtt_ms).collect(),
        bandwidth: plan.bandwidth.to_string(),
        threshold: threshold_name(args.threshold),
    })
}

fn summarize(plan: &Plan, rows: &[Row], judged: &[Judged]) -> Summary {
    let rtts: Vec<f64> = plan.rtts.iter().copied().map(rtt_ms).collect();
    let of = |rtt: f64, variant: &Variant| {
        figures(rows, judged, rtt, variant.name, [Some(CLOUD_ONLY), still(plan, variant)])
    };
    let figures: Vec<Figures> =
        rtts.iter().flat_map(|&rtt| plan.variants.iter().filter_map(move |variant| of(rtt, variant))).collect();
    let names: Vec<&'static str> = plan.variants.iter().map(|variant| variant.name).collect();
    let pairs =
        names.iter().enumerate().flat_map(|(index, one)| names[index + 1..].iter().map(move |other| (*one, *other)));
    let ratios = |one, other| -> Vec<(f64, f64)> {
        rtts.iter().filter_map(|&rtt| Some((rtt, time_ratio(rows, rtt, one, other)?))).collect()
    };
    let crossovers = pairs.map(|(one, other)| crossover(one, other, &ratios(one, other))).collect();
    Summary { figures, crossovers }
}

/// Time per token over distance, by rising distance.
fn line(name: &str, figures: &[Figures]) -> Vec<(f64, f64)> {
    let own = figures.iter().filter(|figures| figures.variant == name);
    own.filter_map(|figures| Some((figures.rtt_ms, figures.total_per_token_ms?))).collect()
}

/// From the ratios of their times, by rising distance.
fn crossover(one: &'static str, other: &'static str, ratios: &[(f64, f64)]) -> Crossover {
    let points: Vec<(f64, f64, f64)> = ratios.iter().map(|&(rtt, ratio)| (rtt, ratio, 1.0)).collect();
    let apart = ratios.iter().find(|(_, ratio)| *ratio != 1.0);
    let faster_near = apart.map(|(_, ratio)| if *ratio < 1.0 { one } else { other });
    Crossover { one, other, at_rtt_ms: crossings(&points), faster_near }
}

/// A line a pair.
fn told(crossovers: &[Crossover]) -> String {
    let lines: Vec<String> = crossovers.iter().map(|crossover| format!("  {}", sentence(crossover))).collect();
    format!("crossovers of time per token:\n{}", lines.join("\n"))
}

fn sentence(crossover: &Crossover) -> String {
    let Crossover { one, other, at_rtt_ms, faster_near } = crossover;
    let pair = format!("{one} and {other}");
    let Some(near) = faster_near else { return format!("{pair}: equally fast everywhere") };
    if at_rtt_ms.is_empty() {
        return format!("{pair}: none, {near} is faster at every distance");
    }
    let places: Vec<String> = at_rtt_ms.iter().map(|rtt| format!("{rtt:.1} ms")).collect();
    format!("{pair}: at {}, nearer than that {near} is faster", places.join(" and "))
}

fn render(figures: &[Figures]) -> String {
    let header = [
        "way",
        "round trip",
        "ms/token",
        "first token",
        "to cloud-only",
        "to standing still",
        "tokens after the first",
        "tokens/round trip",
        "stood still",
        "by the cloud",
        "cloud compute",
        "bytes up/token",
        "agrees",
        "same as whole",
    ];
    table::numbers(&header, figures.iter().map(cells))
}

/// Whether answers that say what others would have taken are right about it.
fn estimates(figures: &[Figures]) -> String {
    let header = ["way", "round trip", "cloud-only: estimated / measured", "edge alone: estimated / measured"];
    let told = figures.iter().filter(|figures| figures.cloud_only_estimate.or(figures.edge_only_estimate).is_some());
    let cells = |figures: &Figures| {
        vec![
            figures.variant.clone(),
            format!("{:.0} ms", figures.rtt_ms),
            table::number(figures.cloud_only_estimate, 2),
            table::number(figures.edge_only_estimate, 2),
        ]
    };
    table::numbers(&header, told.map(cells))
}

fn cells(figures: &Figures) -> Vec<String> {
    vec![
        figures.variant.clone(),
        format!("{:.0} ms", figures.rtt_ms),
        table::number(figures.total_per_token_ms, 1),
        table::number(figures.first_token_ms, 0),
        table::number(figures.time_to_cloud_only, 2),
        table::number(figures.time_to_base, 2),
        table::number(figures.token_time_to_base, 2),
        table::number(figures.tokens_per_round_trip_waited, 1),
        format!("{:.0} %", 100.0 * figures.waited_share),
        format!("{:.0} %", 100.0 * figures.cloud_token_share),
        table::number(figures.cloud_compute_to_cloud_only, 2),
        format!("{:.0}", figures.bytes_up_per_token),
        format!("{:.1} %", 100.0 * figures.agreement),
        format!("{}/{}", figures.answers_same_as_whole, figures.answers),
    ]
}

fn chart(args: &BenchRttArgs, plan: &Plan, figures: &[Figures]) -> String {
    let series: Vec<Series> = plan
        .variants
        .iter()
        .map(|variant| Series { name: variant.name.to_owned(), points: line(variant.name, figures) })
        .collect();
    let title = format!("{}: time per token over distance, {} each way", args.common.model, plan.bandwidth);
    chart::render(&Labels { title, x: "round trip, ms", y: "time per token, ms (median)" }, Spacing::Even, &series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_faster_where_is_said_of_every_pair() {
        let crossing = crossover("near", "far", &[(0.0, 0.5), (20.0, 1.5), (40.0, 2.0)]);
        assert_eq!((crossing.at_rtt_ms.clone(), crossing.faster_near), (vec![10.0], Some("near")));
        assert_eq!(sentence(&crossing), "near and far: at 10.0 ms, nearer than that near is faster");
        let never = crossover("slow", "far", &[(0.0, 3.0), (20.0, 2.0)]);
        assert_eq!(sentence(&never), "slow and far: none, far is faster at every distance");
        assert_eq!(sentence(&crossover("far", "far", &[(0.0, 1.0)])), "far and far: equally fast everywhere");
    }
}
