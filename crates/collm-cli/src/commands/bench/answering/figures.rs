//! All answers of one variant at one distance, summed up.

use std::collections::BTreeMap;

use collm_stats::median;
use serde::Serialize;

use super::{CLOUD_ONLY, Judged, Row, STANDALONE};
use crate::report::{ReportComparison, ReportStats};

/// The paper's columns (its table 2) and ours. Ratios are medians over answers of as many tokens to the same prompt, so they hold for
/// variants that answered fewer prompts or in fewer words, too; sums do not.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(in crate::commands::bench) struct Figures {
    pub(in crate::commands::bench) variant: String,
    pub(in crate::commands::bench) rtt_ms: f64,
    pub(in crate::commands::bench) answers: usize,
    pub(in crate::commands::bench) tokens: usize,
    /// Sums over the answers.
    pub(in crate::commands::bench) total_s: f64,
    pub(in crate::commands::bench) cloud_s: f64,
    pub(in crate::commands::bench) edge_s: f64,
    pub(in crate::commands::bench) network_s: f64,
    /// Share of tokens that the cloud decided or confirmed.
    pub(in crate::commands::bench) cloud_token_share: f64,
    /// Up and down.
    pub(in crate::commands::bench) bytes_per_answer: f64,
    pub(in crate::commands::bench) bytes_up_per_token: f64,
    /// Medians over answers.
    pub(in crate::commands::bench) first_token_ms: Option<f64>,
    pub(in crate::commands::bench) time_per_token_ms: Option<f64>,
    /// From request to end, divided by tokens.
    pub(in crate::commands::bench) total_per_token_ms: Option<f64>,
    pub(in crate::commands::bench) tokens_per_round_trip_waited: Option<f64>,
    /// Share of the time that the edge stood still.
    pub(in crate::commands::bench) waited_share: f64,
    /// Share of tokens that are the whole model's after the same beginning.
    pub(in crate::commands::bench) agreement: f64,
    pub(in crate::commands::bench) answers_same_as_whole: usize,
    /// Means over answers.
    pub(in crate::commands::bench) rouge_l_to_whole: f64,
    pub(in crate::commands::bench) rouge_l_to_reference: Option<f64>,
    /// Time of an answer against the first variant's, and against that of the variant's own base if it has one.
    pub(in crate::commands::bench) time_to_cloud_only: Option<f64>,
    pub(in crate::commands::bench) time_to_base: Option<f64>,
    /// Time of a token after the first, against the base's: nothing hides the way of a prompt, so that an answer's time says less.
    pub(in crate::commands::bench) token_time_to_base: Option<f64>,
    /// Of sums over the same answers.
    pub(in crate::commands::bench) cloud_compute_to_cloud_only: Option<f64>,
    /// What the edge estimated that cloud-only and the edge alone would take, over what they took.
    pub(in crate::commands::bench) cloud_only_estimate: Option<f64>,
    pub(in crate::commands::bench) edge_only_estimate: Option<f64>,
}

/// Of the answers that are `variant`'s at `rtt_ms`; compared with those of `cloud_only`, and of `base`. `None` without answers.
pub(in crate::commands::bench) fn figures(
    rows: &[Row],
    judged: &[Judged],
    rtt_ms: f64,
    variant: &str,
    against: [Option<&str>; 2],
) -> Option<Figures> {
    let own: Vec<(&Row, &Judged)> = rows.iter().zip(judged).filter(|(row, _)| is_of(row, rtt_ms, variant)).collect();
    let [cloud_only, base] = against.map(|name| name.filter(|name| *name != variant));
    let time_to = |other: &str| time_ratio(rows, rtt_ms, variant, other);
    let token_time_to = |other: &str| {
        ratio(rows, rtt_ms, [variant, other], |own, other| Some(own.time_per_token_ms? / other.time_per_token_ms?))
    };
    let estimate_of = |other: &str, estimate: fn(&ReportComparison) -> Option<f64>| {
        let told = |own: &ReportStats| estimate(own.circumstances.comparison.as_ref()?);
        ratio(rows, rtt_ms, [variant, other], |own, other| Some(told(own)? / other.total_ms))
    };
    let sum = |value: &dyn Fn(&Row) -> f64| own.iter().map(|(row, _)| value(row)).sum::<f64>();
    let mean = |value: &dyn Fn(&Judged) -> Option<f64>| {
        let values: Vec<f64> = own.iter().filter_map(|(_, judged)| value(judged)).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let answers = own.len();
    let tokens: usize = own.iter().map(|(row, _)| row.tokens.len()).sum();
    let (per_answer, per_token) = (1.0 / answers as f64, 1.0 / tokens.max(1) as f64);
    let round_trips = sum(&|row| f64::from(row.stats.round_trips_waited));
    Some(Figures {
        variant: variant.to_owned(),
        rtt_ms,
        answers,
        tokens,
        total_s: sum(&|row| row.stats.total_ms) / 1e3,
        cloud_s: sum(&|row| row.stats.cloud_compute_ms) / 1e3,
        edge_s: sum(&|row| row.stats.edge_compute_ms) / 1e3,
        network_s: sum(&|row| row.stats.network_ms) / 1e3,
        cloud_token_share: sum(&|row| row.stats.cloud_share * row.tokens.len() as f64) * per_token,
        bytes_per_answer: sum(&|row| (row.stats.bytes_up + row.stats.bytes_down) as f64) * per_answer,
        bytes_up_per_token: sum(&|row| row.stats.bytes_up as f64) * per_token,
        first_token_ms: median(own.iter().filter_map(|(row, _)| row.stats.first_token_ms)),
        time_per_token_ms: median(own.iter().filter_map(|(row, _)| row.stats.time_per_token_ms)),
        total_per_token_ms: median(own.iter().map(|(row, _)| total_per_token(row))),
        tokens_per_round_trip_waited: (round_trips > 0.0).then(|| tokens as f64 / round_trips),
        waited_share: sum(&|row| row.stats.waited_ms) / sum(&|row| row.stats.total_ms),
        agreement: own.iter().map(|(_, judged)| judged.agreeing as f64).sum::<f64>() * per_token,
        answers_same_as_whole: own.iter().filter(|(_, judged)| judged.same_as_whole).count(),
        rouge_l_to_whole: mean(&|judged| Some(judged.rouge_l_to_whole))?,
        rouge_l_to_reference: mean(&|judged| judged.rouge_l_to_reference),
        time_to_cloud_only: cloud_only.and_then(time_to),
        time_to_base: base.and_then(time_to),
        token_time_to_base: base.and_then(token_time_to),
        cloud_compute_to_cloud_only: cloud_only.and_then(|other| cloud_compute_ratio(rows, rtt_ms, variant, other)),
        cloud_only_estimate: estimate_of(CLOUD_ONLY, |estimates| estimates.cloud_only_ms),
        edge_only_estimate: estimate_of(STANDALONE, |estimates| estimates.edge_only_ms),
    })
}

/// Time of an answer in one way as a multiple of another's at this distance: the median over answers of as many tokens to the same
/// prompt.
pub(in crate::commands::bench) fn time_ratio(rows: &[Row], rtt_ms: f64, one: &str, other: &str) -> Option<f64> {
    ratio(rows, rtt_ms, [one, other], |one, other| Some(one.total_ms / other.total_ms))
}

/// The median over pairs of what is a multiple of what, where both are known.
fn ratio(
    rows: &[Row],
    rtt_ms: f64,
    [one, other]: [&str; 2],
    of: impl Fn(&ReportStats, &ReportStats) -> Option<f64>,
) -> Option<f64> {
    median(pairs(rows, rtt_ms, one, other).filter_map(|(one, other)| of(&one.stats, &other.stats)))
}

/// Cloud compute of one way as a multiple of another's, over the same answers.
fn cloud_compute_ratio(rows: &[Row], rtt_ms: f64, one: &str, other: &str) -> Option<f64> {
    let (one, other) = pairs(rows, rtt_ms, one, other)
        .map(|(one, other)| (one.stats.cloud_compute_ms, other.stats.cloud_compute_ms))
        .fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
    (other > 0.0).then(|| one / other)
}

/// Answers of two ways to the same prompt at this distance, where they have as many tokens: a prompt weighs more in a short answer.
fn pairs<'a>(rows: &'a [Row], rtt_ms: f64, one: &str, other: &str) -> impl Iterator<Item = (&'a Row, &'a Row)> {
    let others = rows.iter().filter(|row| is_of(row, rtt_ms, other));
    let others: BTreeMap<usize, &Row> = others.map(|row| (row.prompt, row)).collect();
    let own = rows.iter().filter(move |row| is_of(row, rtt_ms, one));
    own.filter_map(move |row| Some((row, *others.get(&row.prompt)?)))
        .filter(|(one, other)| one.tokens.len() == other.tokens.len())
}

fn is_of(row: &Row, rtt_ms: f64, variant: &str) -> bool {
    row.rtt_ms == rtt_ms && row.variant == variant
}

fn total_per_token(row: &Row) -> f64 {
    row.stats.total_ms / row.tokens.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{super::row::tests::row, *};

    fn judged(agreeing: usize, same_as_whole: bool) -> Judged {
        Judged { agreeing, same_as_whole, rouge_l_to_whole: 0.5, rouge_l_to_reference: same_as_whole.then_some(0.25) }
    }

    const UNTOLD: ReportComparison = ReportComparison {
        verdict: None,
        edge_only_ms: None,
        cloud_only_ms: None,
        cloud_only_compute_ms: None,
        corrected: None,
    };

    fn near(one: Option<f64>, other: f64) -> bool {
        one.is_some_and(|one| (one - other).abs() < 1e-9)
    }

    #[test]
    fn a_variant_of_fewer_prompts_is_compared_on_those() {
        let rows = [
            row(0, "cloud-only", &[1, 2], 100.0),
            row(0, "naive", &[1, 2], 500.0),
            row(1, "cloud-only", &[1, 2, 3, 4], 1000.0),
        ];
        let judged = [judged(2, true), judged(1, false), judged(4, true)];
        let naive = figures(&rows, &judged, 0.0, "naive", [Some("cloud-only"), None]).expect("an answer");
        assert_eq!((naive.answers, naive.tokens, naive.total_s, naive.cloud_s), (1, 2, 0.5, 0.05));
        assert!(near(naive.time_to_cloud_only, 5.0) && near(naive.cloud_compute_to_cloud_only, 5.0), "{naive:?}");
        assert_eq!((naive.agreement, naive.answers_same_as_whole, naive.rouge_l_to_reference), (0.5, 0, None));
        let cloud = figures(&rows, &judged, 0.0, "cloud-only", [Some("cloud-only"), None]).expect("answers");
        assert_eq!((cloud.answers, cloud.bytes_per_answer, cloud.bytes_up_per_token), (2, 1000.0, 300.0));
        assert_eq!((cloud.agreement, cloud.rouge_l_to_whole, cloud.rouge_l_to_reference), (1.0, 0.5, Some(0.25)));
        assert_eq!((cloud.time_to_cloud_only, cloud.time_to_base), (None, None), "it is not compared with itself");
    }

    #[test]
    fn ratios_are_medians_over_pairs_and_not_of_sums() {
        let one = |prompt, total_ms| [row(prompt, "cloud-only", &[1], 100.0), row(prompt, "exact", &[1], total_ms)];
        let rows = [one(0, 90.0), one(1, 110.0), one(2, 10_000.0)].concat();
        let judged = vec![judged(1, true); rows.len()];
        let exact = figures(&rows, &judged, 0.0, "exact", [Some("cloud-only"), Some("cloud-only")]).expect("answers");
        assert!(near(exact.time_to_cloud_only, 1.1) && near(exact.time_to_base, 1.1), "{exact:?}");
        assert!(near(exact.token_time_to_base, 100.0 / 90.0), "{exact:?}");
    }

    #[test]
    fn estimates_are_held_against_what_was_measured() {
        let mut exact = row(0, "exact", &[1], 90.0);
        let told = ReportComparison { cloud_only_ms: Some(110.0), edge_only_ms: Some(30.0), ..UNTOLD };
        exact.stats.circumstances.comparison = Some(told);
        let rows = [exact, row(0, "cloud-only", &[1], 100.0), row(0, "standalone", &[1], 60.0)];
        let exact = figures(&rows, &vec![judged(1, true); 3], 0.0, "exact", [None, None]).expect("an answer");
        assert!(near(exact.cloud_only_estimate, 1.1) && near(exact.edge_only_estimate, 0.5), "{exact:?}");
    }

    #[test]
    fn answers_of_other_lengths_are_not_compared() {
        let rows = [
            row(0, "cloud-only", &[1, 2], 100.0),
            row(0, "exact", &[1, 2], 90.0),
            row(1, "cloud-only", &[1, 2], 100.0),
            row(1, "exact", &[1], 50.0),
        ];
        let judged = vec![judged(1, true); rows.len()];
        let exact = figures(&rows, &judged, 0.0, "exact", [Some("cloud-only"), None]).expect("answers");
        assert_eq!((exact.answers, exact.time_to_cloud_only), (2, Some(0.9)));
        let short = figures(&rows[2..], &judged[2..], 0.0, "exact", [Some("cloud-only"), None]).expect("an answer");
        assert_eq!((short.time_to_cloud_only, short.cloud_compute_to_cloud_only), (None, None));
    }

    #[test]
    fn no_answers_have_no_figures() {
        assert_eq!(figures(&[], &[], 0.0, "exact", [None, None]), None);
    }
}
