//! Exit 1, before the tail: a head for it, and whether it pays.
//!
//! It saves a position the tail and exit 2's check, but its own check is asked at every position, and the tail's KV of those that left
//! is filled later. So it is worth having only if it is passed often.

use std::sync::Arc;

use collm_core::confidence::ConfidenceMeasure;
use collm_engine::Scope;
use collm_ggml::Threads;
use collm_model::{ExitNumber, ModelFile};
use collm_stats::{Guess, RiskCoverage};
use collm_train::{ExitMap, fit_map};

use crate::{Corpus, Share, States, Teacher, TuneError, cost::CostModel, watcher::Watcher};

/// Positions to fit the map to: several times as many as states of models for an edge have directions.
const POSITIONS: usize = 8192;

/// Fits the map of its head, to what the whole model makes of the same positions.
///
/// # Errors
/// [`TuneError::TooLittleText`] without any text, or [`TuneError::Engine`].
pub fn fit(
    file: &ModelFile,
    teacher: &mut Teacher,
    corpus: &Corpus,
    mut show: impl FnMut(usize, usize),
) -> Result<ExitMap, TuneError> {
    let (width, mut states) = (teacher.width(), States::default());
    for text in corpus.share(Share::Train) {
        let fitted_to = states.last.len() / width;
        show(fitted_to.min(POSITIONS), POSITIONS);
        if fitted_to >= POSITIONS {
            break;
        }
        let more = States::of(teacher, text)?;
        states.uploaded.extend(more.uploaded);
        states.last.extend(more.last);
    }
    if states.last.is_empty() {
        return Err(TuneError::TooLittleText("exit 1"));
    }
    Ok(fit_map(file, &states.uploaded, &states.last)?)
}

/// How good the exit is, by text that is held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FirstExit {
    /// Share of positions where its likeliest token is the whole model's.
    pub agreement: f64,
    /// The largest share that can leave there with no more errors than promised, by the measure that lets most leave.
    pub leaves: f64,
    /// Positions it was judged by.
    pub positions: usize,
}

impl FirstExit {
    /// Judges the exit of an edge part.
    ///
    /// # Errors
    /// [`TuneError::TooLittleText`] if nothing is held back, or what keeps the part from reading the text.
    pub fn judge(
        part: &Arc<ModelFile>,
        corpus: &Corpus,
        error_max: f64,
        (context, threads): (usize, Threads),
        mut show: impl FnMut(usize, usize),
    ) -> Result<Self, TuneError> {
        let mut watcher = Watcher::load(part, ExitNumber::One, (context, threads))?;
        let texts: Vec<_> = corpus.fitting(Share::HeldBack, context).collect();
        let mut guesses: [Vec<Vec<Guess>>; ConfidenceMeasure::ALL.len()] = Default::default();
        let (mut positions, mut right) = (0, 0);
        for (read, text) in texts.iter().enumerate() {
            show(read, texts.len());
            let seen = watcher.read(text, Scope::Full)?;
            positions += seen.len();
            right += seen.iter().filter(|seen| seen.example.right).count();
            for (guesses, measure) in guesses.iter_mut().zip(ConfidenceMeasure::ALL) {
                guesses.push(seen.iter().filter_map(|seen| seen.guess(measure)).collect());
            }
        }
        if positions == 0 {
            return Err(TuneError::TooLittleText("judging exit 1"));
        }
        let leaves = |guesses| RiskCoverage::of(guesses).coverage_at(error_max);
        let leaves = guesses.iter().map(|guesses| leaves(guesses)).fold(0.0, f64::max);
        Ok(Self { agreement: right as f64 / positions as f64, leaves, positions })
    }
}

/// What an exit before the tail saves and costs, as shares of the whole model's decoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worth {
    /// The tail and the check after it, where a position leaves.
    pub saves: f64,
    /// Its check, at every position.
    pub costs: f64,
}

impl Worth {
    /// Before a tail of so many layers; of the LM head the two exits' checks cost these shares.
    pub fn of(exit: FirstExit, cost: &CostModel, tail_layers: usize, checks: [f64; 2]) -> Self {
        let [own, other] = checks.map(|check| cost.check_share(check));
        Self { saves: exit.leaves * (cost.deferred_share(tail_layers) + other), costs: own }
    }

    /// Whether an edge part is better off with it.
    pub fn pays(self) -> bool {
        self.saves > self.costs
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt as _;
    use std::path::Path;

    use collm_ggml::GgmlRequantize;
    use collm_model::exits::{ExitsDraft, ExitsFile, FittedCut};
    use collm_model::split::{self, SplitOptions};
    use collm_model::synthetic::SyntheticModel;
    use collm_model::{Architecture, Digest};

    use super::*;
    use crate::corpus::made_up;
    use crate::{TeacherOptions, exits};

    const UPLOAD_AT: u32 = 2;
    const CONTEXT: usize = 64;

    /// A random model whose layers after the upload, if they are silent, add nothing to the states that pass through them.
    fn model(path: &Path, silent: bool) -> Arc<ModelFile> {
        SyntheticModel::new(Architecture::Llama).write(path).unwrap();
        let file = ModelFile::open(path).unwrap();
        let writer = std::fs::File::options().write(true).open(path).unwrap();
        for layer in (UPLOAD_AT..file.hyperparameters().layers).filter(|_| silent) {
            for matrix in ["attn_output", "ffn_down"] {
                let name = format!("blk.{layer}.{matrix}.weight");
                let info = file.gguf().tensors().iter().find(|info| info.name == name).unwrap();
                writer.write_all_at(&vec![0; info.byte_count as usize], info.file_offset).unwrap();
            }
        }
        Arc::new(ModelFile::open(path).unwrap())
    }

    fn judged(silent: bool) -> FirstExit {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let file = model(&path("model.gguf"), silent);
        let threads = || Threads::unbound(1);
        let options = TeacherOptions { upload_at: UPLOAD_AT, slots: 1, context: CONTEXT, threads: threads() };
        let mut teacher = Teacher::load(&file, &options).unwrap();
        let source_sha256 = Digest::of(&std::fs::read(path("model.gguf")).unwrap());
        // To fit to, and held back.
        let prompt_hashes = (0..40).map(|job| job * 10 + if job < 30 { 0 } else { 8 });
        let corpus = made_up::write(folder.path(), &source_sha256, &mut teacher, 60, prompt_hashes);
        let map = fit(&file, &mut teacher, &corpus, |_, _| ()).unwrap();
        let cut = FittedCut { source_sha256, upload_at: UPLOAD_AT, tail: vec![5], exit1: true, tail_type: None };
        let mut draft = ExitsDraft::new(cut);
        exits::set_map(&mut draft, ExitNumber::One, &map).unwrap();
        let fitted = ExitsFile::from_bytes(draft.to_bytes().unwrap()).unwrap();
        let plan = split::plan(&file, &SplitOptions::of_exits(&fitted), &mut |_| ()).unwrap();
        plan.write(&path("edge.gguf"), &path("cloud.gguf"), Some(&GgmlRequantize), &mut |_| ()).unwrap();
        let part = Arc::new(ModelFile::open(&path("edge.gguf")).unwrap());
        FirstExit::judge(&part, &corpus, 0.03, (CONTEXT, threads()), |_, _| ()).unwrap()
    }

    #[test]
    fn everything_leaves_before_layers_that_do_nothing_and_little_before_others() {
        let (silent, loud) = (judged(true), judged(false));
        assert_eq!((silent.positions, loud.positions), (550, 550));
        assert!(silent.agreement > 0.98 && silent.leaves > 0.98, "{silent:?}");
        assert!(loud.agreement < 0.9 && loud.leaves < 0.5, "{loud:?}");
    }

    #[test]
    fn an_exit_pays_if_it_saves_more_of_the_tail_than_its_check_costs() {
        let cost = CostModel {
            lower_us: 100.0,
            upper_us: 200.0,
            tail_us: 10.0,
            layer_us: 15.0,
            together: 0.5,
            head_us: 100.0,
        };
        let worth =
            |leaves, tail| Worth::of(FirstExit { agreement: 0.9, leaves, positions: 100 }, &cost, tail, [0.2, 0.1]);
        assert_eq!(worth(0.5, 6), Worth { saves: 0.5 * (50.0 / 400.0 + 10.0 / 400.0), costs: 20.0 / 400.0 });
        assert!(worth(0.5, 6).pays() && !worth(0.3, 6).pays() && !worth(1.0, 0).pays());
    }
}
