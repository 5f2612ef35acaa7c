//! What mode auto chose, what became of a budget, and whether the network helped, in a line each.

use crate::report::{ReportAuto, ReportBudget, ReportComparison, ReportStats};

/// What there is to tell, with its name.
pub(super) fn rows(stats: &ReportStats) -> Vec<(&'static str, String)> {
    let circumstances = &stats.circumstances;
    let auto = circumstances.auto.as_ref().map(|auto| ("mode auto", choice(auto)));
    let budget = circumstances.budget.as_ref().map(|report| ("budget", budget(report)));
    let help = circumstances.comparison.as_ref().and_then(|comparison| help(stats, comparison));
    auto.into_iter().chain(budget).chain(help.map(|help| ("did it help", help))).collect()
}

fn choice(auto: &ReportAuto) -> String {
    match auto.fell_after {
        Some(tokens) => format!("{}; from token {} on", auto.sentence, tokens + 1),
        None => auto.sentence.clone(),
    }
}

fn budget(report: &ReportBudget) -> String {
    let threshold =
        |value: Option<f32>| value.map_or_else(|| "everything asked".to_owned(), |value| format!("{value:.3}"));
    let [last, lowest, highest] =
        [report.threshold_last, report.threshold_lowest, report.threshold_highest].map(threshold);
    let kept = if report.kept { "kept" } else { "not kept" };
    format!("{} {kept}; threshold {last} at the end, from {lowest} to {highest}", report.target)
}

/// Nothing where too little was measured.
fn help(stats: &ReportStats, comparison: &ReportComparison) -> Option<String> {
    let verdict = match comparison.verdict.as_deref()? {
        "helped" => "the network helped",
        "edge_sooner" => "the network did not help: the edge alone would have said the same sooner",
        "cloud_sooner" => "the cloud alone would have been sooner",
        _ => "the network was not used",
    };
    let mut sentence = format!("{verdict}: {}", super::milliseconds(stats.total_ms));
    let elsewhere = [(comparison.cloud_only_ms, "cloud only"), (comparison.edge_only_ms, "edge only")];
    let estimates = elsewhere.into_iter().filter_map(|(estimate, place)| Some((estimate?, place)));
    let estimates: Vec<String> =
        estimates.map(|(estimate, place)| format!("{} ({place})", super::milliseconds(estimate))).collect();
    if !estimates.is_empty() {
        sentence.push_str(&format!(" instead of an estimated {}", estimates.join(" or ")));
    }
    if let Some(compute) = comparison.cloud_only_compute_ms {
        let [ours, theirs] = [stats.cloud_compute_ms, compute].map(super::milliseconds);
        sentence.push_str(&format!("; the cloud computed {ours} instead of {theirs}"));
    }
    if let Some(corrected) = comparison.corrected {
        sentence.push_str(&format!(" and corrected {corrected} of {} token(s)", stats.answer_tokens));
    }
    Some(sentence)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::report::tests::stats_json;

    fn told(circumstances: &Value) -> Vec<(&'static str, String)> {
        let mut stats = stats_json(&json!({"total_ms": 1200.0, "cloud_compute_ms": 300.0, "answer_tokens": 64}));
        stats.as_object_mut().expect("an object").extend(circumstances.as_object().expect("an object").clone());
        rows(&serde_json::from_value(stats).expect("stats"))
    }

    #[test]
    fn an_answer_that_collaborated_says_whether_that_helped() {
        let comparison = json!({
            "verdict": "helped", "edge_only_ms": 800.0, "cloud_only_ms": 1900.0, "cloud_only_compute_ms": 1500.0, "corrected": 5,
        });
        let expected = "the network helped: 1.20 s instead of an estimated 1.90 s (cloud only) or 800 ms (edge only); \
                        the cloud computed 300 ms instead of 1.50 s and corrected 5 of 64 token(s)";
        assert_eq!(told(&json!({"comparison": comparison})), [("did it help", expected.to_owned())]);
    }

    #[test]
    fn nothing_is_said_of_what_was_not_measured() {
        let comparison = json!({"verdict": null, "edge_only_ms": 800.0, "corrected": 5});
        assert_eq!(told(&json!({"comparison": comparison})), []);
        assert_eq!(told(&json!({"comparison": null, "auto": null, "budget": null})), []);
    }

    #[test]
    fn budget_and_choice_are_told_in_words() {
        let budget = json!({
            "target": "cloud=20%", "kept": true, "threshold_last": 0.5, "threshold_lowest": 0.25, "threshold_highest": null,
        });
        let auto = json!({"sentence": "at the edge, since it is near", "fell_after": 3});
        let rows = told(&json!({"budget": budget, "auto": auto}));
        assert_eq!(rows[0].1, "at the edge, since it is near; from token 4 on");
        assert_eq!(rows[1].1, "cloud=20% kept; threshold 0.500 at the end, from 0.250 to everything asked");
    }
}
