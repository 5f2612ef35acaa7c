//! Prompts to measure with: a file of JSON lines, in one of the shapes that public collections have.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// A line, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line {
    prompt: Option<String>,
    /// Of a conversation; the first is taken.
    turns: Option<Vec<String>>,
    instruction: Option<String>,
    #[serde(default)]
    instances: Vec<Instance>,
}

/// What an instruction is about.
#[derive(Debug, Deserialize)]
struct Instance {
    #[serde(default)]
    input: String,
}

/// The first `limit` prompts of a file.
pub(super) fn read(path: &Path, limit: usize) -> anyhow::Result<Vec<String>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read prompts from {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.trim().is_empty()).take(limit).enumerate();
    let prompts = lines
        .map(|(index, line)| prompt(line).with_context(|| format!("line {} of {}", index + 1, path.display())))
        .collect::<anyhow::Result<Vec<_>>>()?;
    ensure!(!prompts.is_empty(), "{} holds no prompts", path.display());
    Ok(prompts)
}

fn prompt(line: &str) -> anyhow::Result<String> {
    let line: Line = serde_json::from_str(line).context("not a JSON object of prompts")?;
    if let Some(prompt) = line.prompt.or_else(|| line.turns.and_then(|turns| turns.into_iter().next())) {
        return Ok(prompt);
    }
    let Some(instruction) = line.instruction else {
        bail!("no field prompt, turns or instruction");
    };
    let input = line.instances.into_iter().next().map(|instance| instance.input).unwrap_or_default();
    Ok(if input.is_empty() { instruction } else { format!("{instruction}\n\n{input}") })
}

#[cfg(test)]
mod tests {
    use super::prompt;

    #[test]
    fn takes_the_shapes_of_public_collections() {
        let cases = [
            (r#"{"prompt": "a"}"#, "a"),
            (r#"{"turns": ["a", "b"], "category": "qa"}"#, "a"),
            (r#"{"instruction": "do", "instances": [{"input": "it", "output": "done"}]}"#, "do\n\nit"),
            (r#"{"instruction": "do", "instances": [{"input": ""}]}"#, "do"),
        ];
        for (line, expected) in cases {
            assert_eq!(prompt(line).expect("a prompt"), expected);
        }
    }

    #[test]
    fn other_shapes_are_named() {
        for (line, reason) in [("nonsense", "JSON"), ("{}", "no field"), (r#"{"turns": []}"#, "no field")] {
            let error = prompt(line).expect_err("no prompt");
            assert!(format!("{error:#}").contains(reason), "{line}: {error:#}");
        }
    }
}
