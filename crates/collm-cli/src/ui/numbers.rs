//! The numbers behind an answer, in the lines that users of ollama know, and who decided its tokens.

use std::time::Duration;

use super::circumstances;
use crate::report::Report;

/// One line a number. `load`: what it took to have an edge that answers, if one was started for this.
pub(crate) fn lines(report: &Report, load: Option<Duration>) -> String {
    let stats = &report.stats;
    let prompt_ms = stats.first_token_ms.unwrap_or(stats.total_ms);
    let eval_ms = stats.total_ms - prompt_ms;
    let mut rows = vec![("total duration", super::milliseconds(stats.total_ms))];
    if let Some(load) = load {
        rows.push(("load duration", super::time(load)));
    }
    rows.extend([
        ("prompt eval count", tokens(stats.prompt_tokens)),
        ("prompt eval duration", super::milliseconds(prompt_ms)),
        ("prompt eval rate", rate(stats.prompt_tokens, prompt_ms)),
        ("eval count", tokens(stats.answer_tokens)),
        ("eval duration", super::milliseconds(eval_ms)),
        // The first token came with the prompt.
        ("eval rate", rate(stats.answer_tokens.saturating_sub(1), eval_ms)),
        ("tokens by source", by_source(report)),
    ]);
    rows.extend(circumstances::rows(stats));
    let line = |(name, value): (&str, String)| format!("{:<22}{value}", format!("{name}:"));
    rows.into_iter().map(line).collect::<Vec<_>>().join("\n")
}

fn tokens(count: u32) -> String {
    format!("{count} token(s)")
}

fn rate(tokens: u32, milliseconds: f64) -> String {
    if milliseconds <= 0.0 {
        return "–".to_owned();
    }
    format!("{:.2} tokens/s", f64::from(tokens) * 1e3 / milliseconds)
}

fn by_source(report: &Report) -> String {
    let counted = super::answer::by_source(report);
    let entries: Vec<String> =
        counted.into_iter().map(|(source, count)| format!("{} {count}", super::colour::source_name(source))).collect();
    let degraded = report.stats.degraded_tokens;
    let entries = if entries.is_empty() { "none".to_owned() } else { entries.join(", ") };
    if degraded == 0 { entries } else { format!("{entries}; {degraded} of them degraded") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::tests::stats_json;

    fn report(first_token_ms: Option<f64>, answer_tokens: u32, degraded_tokens: u32) -> Report {
        let tokens = [json!({"id": 1, "source": "exit2"}), json!({"id": 2, "source": "cloud"})];
        let answer = json!({
            "text": "ab", "finish_reason": "stop", "tokens": tokens,
            "stats": stats_json(&json!({
                "first_token_ms": first_token_ms, "answer_tokens": answer_tokens, "degraded_tokens": degraded_tokens,
            })),
        });
        serde_json::from_value(answer).expect("a report")
    }

    #[test]
    fn the_numbers_are_those_of_ollama_and_the_sources() {
        let expected = "\
total duration:       600 ms
load duration:        1.50 s
prompt eval count:    20 token(s)
prompt eval duration: 100 ms
prompt eval rate:     200.00 tokens/s
eval count:           11 token(s)
eval duration:        500 ms
eval rate:            20.00 tokens/s
tokens by source:     edge, exit 2 1, cloud 1; 1 of them degraded";
        assert_eq!(lines(&report(Some(100.0), 11, 1), Some(Duration::from_millis(1500))), expected);
    }

    #[test]
    fn an_answer_without_tokens_has_no_rate() {
        let lines = lines(&report(None, 0, 0), None);
        assert!(lines.contains("eval rate:            –") && !lines.contains("load"), "{lines}");
    }
}
