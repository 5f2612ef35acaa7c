//! What the layers of a tail and the head of its exit learn from the text: to say what the whole model says.

use collm_ggml::GgmlRequantize;
use collm_model::Digest;
use collm_train::{Deltas, HealConfig, Healer, Piece};
use collm_tune::{
    Share,
    frequencies::Frequencies,
    heal::{self, HealPlan},
    pieces,
};

use super::Tuning;
use crate::ui;

/// Held-back tokens that learning is judged by, about: enough to tell two percentage points apart, few enough to look often.
const JUDGED_TOKENS: usize = 2500;

/// Share of the loss that the teacher's first candidate has alone.
const TOP_WEIGHT: f32 = 0.3;

/// Texts whose states are computed between two looks at the progress.
const PASSED_AT_ONCE: usize = 16;

impl Tuning<'_> {
    /// What was asked for: layers and head together, the head alone, or nothing.
    pub(super) fn learn(&self, tail: &[u32]) -> anyhow::Result<Option<Deltas>> {
        if self.args.heal {
            self.heal(tail).map(Some)
        } else if self.args.fit_head {
            self.fit_head(tail).map(Some)
        } else {
            Ok(None)
        }
    }

    fn heal(&self, tail: &[u32]) -> anyhow::Result<Deltas> {
        let pieces = self.pieces()?;
        self.learn_from(&pieces, self.config(tail), tail, "healing the tail")
    }

    /// From what the layers, as they are, make of the text: a network without any layers.
    fn fit_head(&self, tail: &[u32]) -> anyhow::Result<Deltas> {
        let Pieces { train, judged } = self.pieces()?;
        let mut step = self.progress.step("computing the tail's states");
        let config = self.config(tail);
        let mut layers = Healer::new(&self.subject.file, &GgmlRequantize, config.clone())?;
        let mut pass = |pieces: Vec<Piece>| -> anyhow::Result<Vec<Piece>> {
            let mut passed = Vec::with_capacity(pieces.len());
            for some in pieces.chunks(PASSED_AT_ONCE) {
                passed.extend(layers.pass(some)?);
                step.count(passed.len(), pieces.len());
            }
            Ok(passed)
        };
        let pieces = Pieces { judged: pass(judged)?, train: pass(train)? };
        drop(layers);
        step.done("took");
        let without_layers = HealConfig { tail: Vec::new(), ..config };
        self.learn_from(&pieces, without_layers, tail, "fitting the exit's head")
    }

    fn config(&self, tail: &[u32]) -> HealConfig {
        let Self { args, subject, corpus, .. } = *self;
        let vocabulary = subject.file.hyperparameters().vocabulary as usize;
        HealConfig {
            rank: args.rank as usize,
            map: args.map,
            mlp: args.mlp as usize,
            classes: Some(Frequencies::of(corpus, vocabulary).most_frequent(args.classes as usize)),
            quantize: subject.tail_type,
            learning_rate: args.learning_rate,
            top_weight: TOP_WEIGHT,
            seed: args.seed,
            threads: subject.threads.count,
            ..HealConfig::new(tail.to_vec())
        }
    }

    fn learn_from(&self, pieces: &Pieces, config: HealConfig, tail: &[u32], name: &str) -> anyhow::Result<Deltas> {
        let Self { args, subject, .. } = *self;
        let plan = HealPlan {
            budget: args.budget,
            seed: args.seed,
            checkpoint: args.work.join(checkpoint_name((subject.upload_at, tail), &config)),
        };
        let mut healer = Healer::new(&subject.file, &GgmlRequantize, config)?;
        let mut step = self.progress.step(name);
        let (deltas, score) = heal::heal(&mut healer, [&pieces.train, &pieces.judged], &plan, |now| {
            step.now(&format!(
                "{} positions, loss {:.3}, held-back text: loss {:.3}, {:.1} % agree; {} left",
                now.positions,
                now.learning.loss,
                now.held_back.loss,
                100.0 * now.held_back.agreement,
                ui::time(now.budget.saturating_sub(now.spent))
            ));
            anyhow::Ok(())
        })?;
        step.done(&format!("({:.1} % of held-back tokens agree) took", 100.0 * score.agreement));
        Ok(deltas)
    }

    fn pieces(&self) -> anyhow::Result<Pieces> {
        let Self { subject, corpus, progress, .. } = *self;
        let mut teacher = subject.teacher(1)?;
        let mut step = progress.step("computing states");
        let texts: Vec<_> = corpus.share(Share::Train).collect();
        let mut judged_tokens = 0;
        let judged = corpus.share(Share::HeldBack).take_while(|text| {
            judged_tokens += text.answer().len();
            judged_tokens <= JUDGED_TOKENS
        });
        let judged = judged.map(|text| pieces::piece(&mut teacher, text)).collect::<Result<_, _>>()?;
        let mut train = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            step.count(index, texts.len());
            train.push(pieces::piece(&mut teacher, text)?);
        }
        step.done("took");
        Ok(Pieces { train, judged })
    }
}

/// The text as it is learnt from.
struct Pieces {
    train: Vec<Piece>,
    judged: Vec<Piece>,
}

/// The state of a run, in the work folder, whose text is of one model. Another tail, cut or setting is another run.
fn checkpoint_name((upload_at, tail): (u32, &[u32]), config: &HealConfig) -> String {
    // Threads do not change what is learnt.
    let run = format!("{upload_at} {tail:?} {:?}", HealConfig { threads: 0, ..config.clone() });
    format!("heal-{}.checkpoint", &Digest::of(run.as_bytes()).to_string()[..12])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_tail_or_cut_is_another_run() {
        let tail = [4, 5, 7];
        let config = HealConfig::new(tail.to_vec());
        let name = checkpoint_name((4, &tail), &config);
        assert_eq!(name, checkpoint_name((4, &tail), &HealConfig { threads: 7, ..config.clone() }));
        let head_alone = HealConfig::new(Vec::new());
        let names = [
            name,
            checkpoint_name((3, &tail), &config),
            checkpoint_name((4, &[4, 6, 7]), &HealConfig::new(vec![4, 6, 7])),
            checkpoint_name((4, &tail), &head_alone),
            checkpoint_name((4, &[4, 6, 7]), &head_alone),
            checkpoint_name((4, &tail), &HealConfig { learning_rate: 0.5, ..config.clone() }),
            checkpoint_name((4, &tail), &HealConfig { mlp: 32, ..config.clone() }),
            checkpoint_name((4, &tail), &HealConfig { classes: Some(vec![1]), ..config }),
        ];
        let different: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
    }
}
