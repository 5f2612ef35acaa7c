//! Prompts to measure with: a file of JSON lines, in one of the shapes that public collections have.

use std::{fs, path::Path};

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

/// A prompt, and what its collection says about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct AskedFor {
    pub(crate) prompt: String,
    /// What somebody would like to read, if the collection has it.
    pub(crate) reference: Option<String>,
    pub(crate) category: Option<String>,
}

/// A line, as far as it matters here.
#[derive(Debug, Deserialize)]
struct Line {
    prompt: Option<String>,
    /// Of a conversation; the first is taken.
    turns: Option<Vec<String>>,
    instruction: Option<String>,
    #[serde(default)]
    instances: Vec<Instance>,
    category: Option<String>,
    reference: Option<Reference>,
}

/// What an instruction is about, and an answer to it.
#[derive(Debug, Deserialize)]
struct Instance {
    #[serde(default)]
    input: String,
    output: Option<String>,
}

/// One, one a turn, or for each turn a list of what should be mentioned.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Reference {
    One(String),
    Each(Vec<String>),
    Mentioned(Vec<Vec<String>>),
}

impl Reference {
    fn of_first_turn(self) -> Option<String> {
        match self {
            Self::One(text) => Some(text),
            Self::Each(texts) => texts.into_iter().next(),
            Self::Mentioned(lists) => lists.into_iter().next().map(|list| list.join(", ")),
        }
    }
}

/// The first `limit` prompts of a file, of a category if one is named.
pub(crate) fn read(path: &Path, category: Option<&str>, limit: usize) -> anyhow::Result<Vec<AskedFor>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read prompts from {}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut prompts = Vec::new();
    for (index, line) in lines {
        let asked = asked_for(line).with_context(|| format!("line {} of {}", index + 1, path.display()))?;
        if prompts.len() < limit && category.is_none_or(|category| asked.category.as_deref() == Some(category)) {
            prompts.push(asked);
        }
    }
    let of = category.map(|category| format!(" of the category {category:?}")).unwrap_or_default();
    ensure!(!prompts.is_empty(), "{} holds no prompts{of}", path.display());
    Ok(prompts)
}

fn asked_for(line: &str) -> anyhow::Result<AskedFor> {
    let line: Line = serde_json::from_str(line).context("not a JSON object of prompts")?;
    let category = line.category;
    let reference = line.reference.and_then(Reference::of_first_turn);
    if let Some(prompt) = line.prompt.or_else(|| line.turns.and_then(|turns| turns.into_iter().next())) {
        return Ok(AskedFor { prompt, reference, category });
    }
    let Some(instruction) = line.instruction else {
        bail!("no field prompt, turns or instruction");
    };
    let (input, output) = match line.instances.into_iter().next() {
        Some(Instance { input, output }) => (input, output),
        None => (String::new(), None),
    };
    let prompt = if input.is_empty() { instruction } else { format!("{instruction}\n\n{input}") };
    Ok(AskedFor { prompt, reference: reference.or(output), category })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_shapes_of_public_collections() {
        let cases = [
            (r#"{"prompt": "a"}"#, ("a", None, None)),
            (r#"{"turns": ["a", "b"], "category": "qa"}"#, ("a", None, Some("qa"))),
            (r#"{"turns": ["a", "b"], "reference": ["r", "s"]}"#, ("a", Some("r"), None)),
            (r#"{"turns": ["a"], "reference": [["r", "s"]]}"#, ("a", Some("r, s"), None)),
            (r#"{"prompt": "a", "reference": "r"}"#, ("a", Some("r"), None)),
            (
                r#"{"instruction": "do", "instances": [{"input": "it", "output": "done"}]}"#,
                ("do\n\nit", Some("done"), None),
            ),
            (r#"{"instruction": "do", "instances": [{"input": ""}]}"#, ("do", None, None)),
        ];
        for (line, (prompt, reference, category)) in cases {
            let [reference, category] = [reference, category].map(|text: Option<&str>| text.map(str::to_owned));
            assert_eq!(asked_for(line).expect("a prompt"), AskedFor { prompt: prompt.to_owned(), reference, category });
        }
    }

    #[test]
    fn other_shapes_are_named() {
        for (line, reason) in [("nonsense", "JSON"), ("{}", "no field"), (r#"{"turns": []}"#, "no field")] {
            let error = asked_for(line).expect_err("no prompt");
            assert!(format!("{error:#}").contains(reason), "{line}: {error:#}");
        }
    }

    #[test]
    fn a_category_is_taken_before_prompts_are_counted() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let line = |prompt, category| format!(r#"{{"prompt": "{prompt}", "category": "{category}"}}"#);
        fs::write(&file, [line("a", "qa"), line("b", "rag"), String::new(), line("c", "rag")].join("\n"))
            .expect("room");
        let prompts = |category, limit| {
            let read = read(file.path(), category, limit);
            read.map(|read| read.into_iter().map(|asked| asked.prompt).collect::<Vec<_>>())
        };
        assert_eq!(prompts(None, 2).expect("prompts"), ["a", "b"]);
        assert_eq!(prompts(Some("rag"), 2).expect("prompts"), ["b", "c"]);
        assert!(prompts(Some("math"), 2).expect_err("none").to_string().contains("no prompts of the category"));
    }
}
