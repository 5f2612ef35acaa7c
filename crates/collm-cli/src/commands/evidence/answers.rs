//! The whole model's own answers, greedy, made once and kept as JSON lines.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, ensure};
use collm_engine::TokenId;
use collm_ggml::LoadOptions;
use serde::{Deserialize, Serialize};

use super::{Subject, Text};
use crate::{agreement::Judge, prompts::AskedFor, ui::progress::ProgressMode};

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::commands) struct WholeAnswer {
    /// Digest of the model's file.
    model: String,
    tokens_max: u32,
    prompt: String,
    prompt_tokens: Vec<u32>,
    pub(in crate::commands) tokens: Vec<u32>,
    pub(in crate::commands) text: String,
}

/// The answers to some prompts, in their order.
#[derive(Debug)]
pub(in crate::commands) struct WholeAnswers {
    /// With the prompt that each answers.
    pub(in crate::commands) answers: Vec<(AskedFor, WholeAnswer)>,
    /// Prompts that the context has no room for, left out.
    pub(in crate::commands) too_long: usize,
}

impl WholeAnswer {
    /// As a text to look at: being greedy, it is what the whole model says everywhere in it.
    pub(in crate::commands) fn text(&self) -> Text {
        let answer = ids(&self.tokens);
        Text { prompt: ids(&self.prompt_tokens), expected: answer.clone(), answer }
    }
}

fn ids(tokens: &[u32]) -> Vec<TokenId> {
    tokens.iter().copied().map(TokenId).collect()
}

impl WholeAnswers {
    /// Lets the whole model answer, each prompt in at most `tokens_max` tokens, unless `known` has what it would say. Another engine or
    /// processor may have made that, and said something else at a near-tie; so it is read first.
    pub(in crate::commands) fn make(
        subject: &Subject,
        options: &LoadOptions,
        prompts: Vec<AskedFor>,
        tokens_max: u32,
        known: &KnownAnswers,
        progress: ProgressMode,
    ) -> anyhow::Result<Self> {
        let mut step = progress.step("answering with the whole model");
        let mut judge = Judge::of_model(&subject.whole, options)?;
        if !judge.converses() {
            anstream::eprintln!("note: the model has no chat template; it continues the prompts as they are");
        }
        let (mut answers, mut too_long, mut said_otherwise, total) = (Vec::new(), 0, 0, prompts.len());
        for (index, asked) in prompts.into_iter().enumerate() {
            step.count(index, total);
            let prompt = judge.prompt(&asked.prompt)?;
            if prompt.len() + tokens_max as usize > options.context {
                too_long += 1;
                continue;
            }
            let model = subject.digest.to_string();
            let found = known.find(&model, tokens_max, &asked.prompt, &prompt);
            let holds = match found {
                Some(known) => judge.agrees(&prompt, &ids(&known.tokens))?.into_iter().all(|agrees| agrees),
                None => false,
            };
            said_otherwise += usize::from(found.is_some() && !holds);
            let answer = match found.filter(|_| holds) {
                Some(known) => known.clone(),
                None => {
                    let tokens = judge.answer(&prompt, tokens_max as usize)?;
                    WholeAnswer {
                        model,
                        tokens_max,
                        prompt: asked.prompt.clone(),
                        prompt_tokens: prompt.iter().map(|token| token.0).collect(),
                        text: judge.words(&tokens),
                        tokens: tokens.iter().map(|token| token.0).collect(),
                    }
                }
            };
            answers.push((asked, answer));
        }
        step.done("took");
        if said_otherwise > 0 {
            anstream::eprintln!(
                "note: {said_otherwise} of the answers given are not what the model says here; they were made anew"
            );
        }
        ensure!(
            !answers.is_empty(),
            "no prompt fits a context of {} with its answer; raise --context",
            options.context
        );
        Ok(Self { answers, too_long })
    }

    /// As texts to look at.
    pub(in crate::commands) fn texts(&self) -> Vec<Text> {
        self.answers.iter().map(|(_, answer)| answer.text()).collect()
    }

    /// As JSON lines, to be [read](KnownAnswers::read) again.
    pub(in crate::commands) fn to_lines(&self) -> anyhow::Result<String> {
        let lines = self.answers.iter().map(|(_, answer)| serde_json::to_string(answer));
        Ok(lines.collect::<Result<Vec<_>, _>>()?.join("\n"))
    }
}

/// Answers of an earlier run, by prompt.
#[derive(Debug, Default)]
pub(in crate::commands) struct KnownAnswers(BTreeMap<String, WholeAnswer>);

impl KnownAnswers {
    pub(in crate::commands) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read answers from {}", path.display()))?;
        let lines = text.lines().filter(|line| !line.trim().is_empty()).map(serde_json::from_str::<WholeAnswer>);
        let answers = lines.map(|answer| answer.map(|answer| (answer.prompt.clone(), answer)));
        let known = answers.collect::<Result<_, _>>();
        Ok(Self(known.with_context(|| format!("{} holds no answers of `collm eval`", path.display()))?))
    }

    /// The answer of this model to this prompt, made of the same tokens and cut at the same length.
    fn find(&self, model: &str, tokens_max: u32, prompt: &str, tokens: &[TokenId]) -> Option<&WholeAnswer> {
        let known = self.0.get(prompt)?;
        let same = known.model == model && known.tokens_max == tokens_max && ids(&known.prompt_tokens) == tokens;
        same.then_some(known).filter(|known| !known.tokens.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_known_again_only_where_nothing_differs() {
        let answer = WholeAnswer {
            model: "a".to_owned(),
            tokens_max: 8,
            prompt: "Hi".to_owned(),
            prompt_tokens: vec![1, 2],
            tokens: vec![3],
            text: "yes".to_owned(),
        };
        let asked = AskedFor { prompt: "Hi".to_owned(), ..AskedFor::default() };
        let answers = WholeAnswers { answers: vec![(asked, answer.clone())], too_long: 0 };
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(&file, answers.to_lines().expect("JSON")).expect("room");
        let known = KnownAnswers::read(file.path()).expect("answers");
        let find = |model, tokens_max, prompt, tokens: &[u32]| known.find(model, tokens_max, prompt, &ids(tokens));
        assert_eq!(find("a", 8, "Hi", &[1, 2]), Some(&answer));
        for (model, tokens_max, prompt, tokens) in
            [("b", 8, "Hi", [1, 2]), ("a", 9, "Hi", [1, 2]), ("a", 8, "Ho", [1, 2]), ("a", 8, "Hi", [1, 3])]
        {
            assert_eq!(find(model, tokens_max, prompt, &tokens), None);
        }
        fs::write(&file, "{}").expect("room");
        assert!(KnownAnswers::read(file.path()).is_err());
    }
}
