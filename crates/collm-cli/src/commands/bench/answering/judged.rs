//! What answers are worth, beside the whole model's: computed when everything is measured, since the comparison needs a core, too.

use std::collections::{BTreeMap, btree_map::Entry};

use collm_core::ids::TokenId;
use collm_stats::rouge_l;
use serde::Serialize;

use super::{Plan, Row, variant::CLOUD_ONLY};
use crate::{
    agreement::Judge,
    commands::demo::{CONTEXT, Scene},
    ui::progress::ProgressMode,
};

/// An answer beside the whole model's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(in crate::commands::bench) struct Judged {
    /// Tokens that are the whole model's after the same prompt and the same answer so far.
    pub(in crate::commands::bench) agreeing: usize,
    /// The answer is the whole model's, token for token.
    pub(in crate::commands::bench) same_as_whole: bool,
    /// ROUGE-L against the whole model's answer.
    pub(in crate::commands::bench) rouge_l_to_whole: f64,
    /// ROUGE-L against the collection's answer, if it has one.
    pub(in crate::commands::bench) rouge_l_to_reference: Option<f64>,
}

/// Judges every row, in order.
pub(in crate::commands::bench) fn judge(
    plan: &Plan,
    rows: &[Row],
    scene: &Scene,
    progress: ProgressMode,
) -> anyhow::Result<Vec<Judged>> {
    let mut judge = Judge::load(&scene.model.path, CONTEXT as usize, progress)?;
    let mut step = progress.step("comparing with the whole model");
    let mut whole: BTreeMap<usize, WholeAnswer> = BTreeMap::new();
    // Most answers come again in other variants and at other distances.
    let mut known: BTreeMap<(usize, &[u32]), usize> = BTreeMap::new();
    let mut judged = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        step.count(index, rows.len());
        let asked = &plan.prompts[row.prompt];
        let whole = match whole.entry(row.prompt) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let cloud_only = rows.iter().find(|other| other.prompt == row.prompt && other.variant == CLOUD_ONLY);
                unknown.insert(WholeAnswer::of(&mut judge, &asked.prompt, plan.tokens_max, cloud_only)?)
            }
        };
        let agreeing = match known.get(&(row.prompt, row.tokens.as_slice())) {
            Some(agreeing) => *agreeing,
            None => whole.agreeing(&mut judge, &row.tokens)?,
        };
        known.insert((row.prompt, &row.tokens), agreeing);
        judged.push(Judged {
            agreeing,
            same_as_whole: whole.tokens == row.tokens,
            rouge_l_to_whole: rouge_l(&row.text, &whole.text),
            rouge_l_to_reference: asked.reference.as_deref().map(|reference| rouge_l(&row.text, reference)),
        });
    }
    step.done("took");
    Ok(judged)
}

/// What the whole model answers a prompt.
struct WholeAnswer {
    prompt: Vec<TokenId>,
    tokens: Vec<u32>,
    text: String,
}

impl WholeAnswer {
    /// A cloud with the whole model has said it already, if that is what the whole model says here, which takes less time to see.
    fn of(judge: &mut Judge, prompt: &str, tokens_max: u32, cloud_only: Option<&Row>) -> anyhow::Result<Self> {
        let prompt = judge.prompt(prompt)?;
        if let Some(row) = cloud_only {
            let answer: Vec<TokenId> = row.tokens.iter().copied().map(TokenId).collect();
            if judge.agrees(&prompt, &answer)?.into_iter().all(|agrees| agrees) {
                return Ok(Self { prompt, tokens: row.tokens.clone(), text: row.text.clone() });
            }
        }
        let tokens = judge.answer(&prompt, tokens_max as usize)?;
        let text = judge.words(&tokens);
        Ok(Self { prompt, tokens: tokens.into_iter().map(|token| token.0).collect(), text })
    }

    fn agreeing(&self, judge: &mut Judge, answer: &[u32]) -> anyhow::Result<usize> {
        if answer == self.tokens {
            return Ok(answer.len());
        }
        let answer: Vec<TokenId> = answer.iter().copied().map(TokenId).collect();
        Ok(judge.agrees(&self.prompt, &answer)?.into_iter().filter(|agrees| *agrees).count())
    }
}
