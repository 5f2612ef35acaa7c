//! What the policy must give: both parts computed here, without network, cache, batches or threads.

use std::{iter, sync::Arc};

use collm_core::sampling::{Choice, Sampling, Scoring, choose};
use collm_engine::{BLOCK_ROWS, Engine as _, Head, Input, Position, Row, Scope, Scores, SlotId, Stack, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Threads, Vocabulary};
use collm_model::{
    ModelFile,
    template::{ChatTemplate, Message},
};
use half::f16;
use serde_json::Value;

use crate::harness::{CONTEXT, Parts};

/// The two parts, loaded side by side.
pub(crate) struct Reference {
    edge: GgmlEngine,
    cloud: GgmlEngine,
    vocabulary: Vocabulary,
    template: ChatTemplate,
}

/// The only one.
const SLOT: SlotId = SlotId(0);

/// How a question is answered.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Mode exact, in which no guess is sure and states travel in f32.
    pub(crate) exact: bool,
    /// From which confidence on a guess is emitted, in mode collaborative.
    pub(crate) threshold: f32,
    pub(crate) sampling: Sampling,
}

/// What each side would say after one position.
#[derive(Debug, Clone, Copy)]
struct Verdicts {
    exit2: Choice,
    cloud: Choice,
}

impl Reference {
    pub(crate) fn load(parts: &Parts) -> Self {
        let open = |name| Arc::new(ModelFile::open(&parts.path(name)).expect("a part"));
        let edge = open("edge.gguf");
        Self {
            vocabulary: Vocabulary::load(&edge).expect("a vocabulary"),
            template: ChatTemplate::of_model(edge.gguf()).expect("a readable template").expect("a template"),
            edge: load(&edge),
            cloud: load(&open("cloud.gguf")),
        }
    }

    /// Checks each token of an answer to a message against the policy. Returns how many were degraded.
    #[track_caller]
    pub(crate) fn check(&mut self, message: &str, answer: &Value, way: &Way) -> usize {
        let prompt = self.template.render(&[Message::new("user", message)]).expect("a prompt");
        let prompt = self.vocabulary.tokenize_prompt(&prompt, collm_ggml::Markup::Tokens).expect("tokens");
        let tokens = answer["tokens"].as_array().expect("tokens");
        let ids: Vec<TokenId> =
            tokens.iter().map(|token| TokenId(token["id"].as_u64().expect("an id") as u32)).collect();
        let verdicts = self.verdicts(&prompt, &ids, way);
        let mut degraded = 0;
        for (index, (token, verdicts)) in tokens.iter().zip(verdicts).enumerate() {
            degraded += usize::from(token["degraded"] == true);
            check_token(token, ids[index], verdicts, way)
                .unwrap_or_else(|why| panic!("token {index} of {answer}: {why}"));
        }
        degraded
    }

    /// What both sides would say where each token of the answer stands.
    fn verdicts(&mut self, prompt: &[TokenId], answer: &[TokenId], way: &Way) -> Vec<Verdicts> {
        let mut verdicts = Vec::new();
        // As nodes compute: a prompt's blocks whole, an answer's never.
        let decided = &answer[..answer.len() - 1];
        for piece in iter::once(prompt).chain(decided.chunks(BLOCK_ROWS - 1)) {
            verdicts.extend(self.advance(piece, way));
        }
        self.edge.truncate(SLOT, 0);
        self.cloud.truncate(SLOT, 0);
        verdicts.split_off(prompt.len() - 1)
    }

    /// What both sides say after each of the next tokens, all computed in one call.
    fn advance(&mut self, tokens: &[TokenId], way: &Way) -> Vec<Verdicts> {
        let start = self.edge.filled(Stack::Lower, SLOT);
        let positions = (start..start + tokens.len()).map(|index| Position(index as u32));
        let rows: Vec<Row> = positions.map(|position| Row { slot: SLOT, position }).collect();
        let states = run(&mut self.edge, Stack::Lower, &rows, Input::Tokens(tokens));
        let tail = run(&mut self.edge, Stack::Tail, &rows, Input::Hidden(&states));
        let carried = |value: &f32| if way.exact { *value } else { f16::from_f32(*value).to_f32() };
        let uploaded: Vec<f32> = states.iter().map(carried).collect();
        let upper = run(&mut self.cloud, Stack::Upper, &rows, Input::Hidden(&uploaded));
        let exit2 = score(&mut self.edge, Head::Exit2, &tail, &rows, &way.sampling);
        let cloud = score(&mut self.cloud, Head::Final, &upper, &rows, &way.sampling);
        exit2.into_iter().zip(cloud).map(|(exit2, cloud)| Verdicts { exit2, cloud }).collect()
    }
}

fn check_token(token: &Value, id: TokenId, verdicts: Verdicts, way: &Way) -> Result<(), String> {
    let sure = !way.exact && verdicts.exit2.confidence >= way.threshold;
    let expected = match (token["source"].as_str(), token["degraded"].as_bool()) {
        (Some("exit2"), Some(false)) if sure => verdicts.exit2,
        (Some("exit2"), Some(true)) if !sure => verdicts.exit2,
        (Some("cloud"), Some(false)) if !sure => verdicts.cloud,
        _ => return Err(format!("its source does not fit {verdicts:?}")),
    };
    let confidence = token["confidence"].as_f64().unwrap_or(f64::NAN) as f32;
    if id != expected.token || (confidence - expected.confidence).abs() > 1e-4 {
        return Err(format!("{token} is not {expected:?}"));
    }
    Ok(())
}

fn load(file: &Arc<ModelFile>) -> GgmlEngine {
    let options = LoadOptions {
        context: CONTEXT,
        batch_rows_max: CONTEXT,
        threads: Threads::unbound(1),
        ..LoadOptions::default()
    };
    GgmlEngine::load(file, &options).expect("an engine")
}

fn run(engine: &mut GgmlEngine, stack: Stack, rows: &[Row], input: Input<'_>) -> Vec<f32> {
    let mut hidden = Vec::new();
    engine.run(stack, rows, input, &mut hidden).expect("the rows fit");
    hidden
}

/// Choices after all these states.
fn score(engine: &mut GgmlEngine, head: Head, hidden: &[f32], rows: &[Row], sampling: &Sampling) -> Vec<Choice> {
    let vocabulary = engine.shape().vocabulary;
    let mut scores = Scores::default();
    engine.score(head, Scope::Full, hidden, &mut scores).expect("the states are finite");
    let scored = scores.logits.chunks_exact_mut(vocabulary).zip(rows);
    let scoring = |row: &Row| Scoring::alone(row.position, sampling.clone());
    scored.map(|(logits, row)| choose(logits, &scoring(row)).expect("finite logits").choice).collect()
}
