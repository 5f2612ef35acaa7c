use std::path::Path;

use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, Digest};

use super::*;
use crate::corpus::{CorpusWriter, made_up};
use crate::{States, Teacher, TeacherOptions};

const SOURCE: Digest = Digest([3; 32]);

fn options(layers_min: usize) -> SearchOptions {
    SearchOptions {
        upload_at: 2,
        beam: 2,
        positions: 60,
        positions_first: 20,
        layers_min,
        threads: Threads::unbound(1),
    }
}

fn model(folder: &Path) -> Arc<ModelFile> {
    let path = folder.join("model.gguf");
    SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
    Arc::new(ModelFile::open(&path).unwrap())
}

/// Three held-back texts, each continued by what the model says after it.
fn corpus(folder: &Path, file: &Arc<ModelFile>) -> Corpus {
    let options = TeacherOptions { upload_at: 2, slots: 1, context: 64, threads: Threads::unbound(1) };
    let mut teacher = Teacher::load(file, &options).unwrap();
    made_up::write(folder, &SOURCE, &mut teacher, 30, [8, 18, 28])
}

#[test]
fn the_frontier_gets_shorter_by_one_and_starts_with_the_whole_model() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    let corpus = corpus(folder.path(), &file);
    let mut done = Vec::new();
    let frontier = search(&file, &corpus, &options(1), &mut |progress| done.push(progress.done)).unwrap();
    assert_eq!(frontier[0].tail, [2, 3, 4, 5]);
    assert_eq!((frontier[0].agreement, frontier[0].coverage, frontier[0].positions), (1.0, [1.0; 3], 75));
    assert_eq!(frontier.iter().map(|score| score.tail.len()).collect::<Vec<_>>(), [4, 3, 2, 1]);
    for score in &frontier {
        assert!(score.tail.is_sorted() && score.agreement <= 1.0, "{score:?}");
    }
    assert!(done.is_sorted() && done.last() == Some(&1.0), "{done:?}");
}

#[test]
fn kept_states_change_no_score() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    let corpus = corpus(folder.path(), &file);
    let frontier = search(&file, &corpus, &options(2), &mut |_| ()).unwrap();
    for score in frontier {
        assert_eq!(judge(&file, &corpus, &options(2), &score.tail).unwrap(), score);
    }
}

#[test]
fn states_are_those_before_and_after() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    let corpus = corpus(folder.path(), &file);
    let sequence = corpus.sequences().next().unwrap();
    let options = TeacherOptions { upload_at: 2, slots: 1, context: 64, threads: Threads::unbound(1) };
    let mut teacher = Teacher::load(&file, &options).unwrap();
    let states = States::of(&mut teacher, sequence).unwrap();
    let mut trial = Trial::load(&file, &[2, 3, 4, 5], Threads::unbound(1)).unwrap();
    assert_eq!(trial.read(sequence).unwrap().uploaded, states.uploaded);
    let logits = states.answer_logits(&mut teacher, sequence).unwrap();
    assert_eq!(logits.len(), 25 * file.hyperparameters().vocabulary as usize);
}

#[test]
fn without_text_there_is_nothing_to_judge_by() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    drop(CorpusWriter::open(folder.path(), &SOURCE, 1).unwrap());
    let corpus = Corpus::read(folder.path(), &SOURCE).unwrap();
    let result = search(&file, &corpus, &options(1), &mut |_| ());
    assert!(matches!(result, Err(TuneError::TooLittleText(_))), "{result:?}");
}
