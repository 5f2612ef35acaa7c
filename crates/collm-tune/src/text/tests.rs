use std::path::Path;
use std::sync::Arc;

use collm_ggml::Threads;
use collm_model::gguf::{TensorType, Value};
use collm_model::synthetic::SyntheticModel;
use collm_model::{Architecture, Digest, ModelFile};

use super::*;
use crate::{Corpus, Sequence, TeacherOptions};

const SOURCE: Digest = Digest([1; 32]);

const TEMPLATE: &str = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant] ";

fn model(folder: &Path) -> Arc<ModelFile> {
    let path = folder.join("model.gguf");
    let metadata = vec![("tokenizer.chat_template".to_owned(), Value::string(TEMPLATE))];
    let model = SyntheticModel::new(Architecture::Llama);
    SyntheticModel { metadata, weights: TensorType::Q8_0, ..model }.write(&path).unwrap();
    Arc::new(ModelFile::open(&path).unwrap())
}

fn teacher(file: &Arc<ModelFile>, slots: usize) -> Teacher {
    let options = TeacherOptions { upload_at: 2, slots, context: CONTEXT, threads: Threads::unbound(1) };
    Teacher::load(file, &options).unwrap()
}

fn run(folder: &Path, file: &Arc<ModelFile>, slots: usize, tokens: usize) -> TextProgress {
    let dialogue = Dialogue::of_model(file).unwrap();
    let mut corpus = CorpusWriter::open(folder, &SOURCE, 7).unwrap();
    let options = TextOptions { tokens, seed: 7, prompts: vec!["What is a cat?".to_owned()] };
    write(&mut teacher(file, slots), &dialogue, &mut corpus, &options, &mut |_| ()).unwrap()
}

fn by_job(folder: &Path) -> Vec<Sequence> {
    let mut sequences: Vec<Sequence> = Corpus::read(folder, &SOURCE).unwrap().sequences().cloned().collect();
    sequences.sort_by_key(|sequence| sequence.job);
    sequences
}

#[test]
fn texts_do_not_depend_on_neighbours_or_interruptions() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    let [alone, together] = ["alone", "together"].map(|name| folder.path().join(name));
    run(&alone, &file, 1, 600);
    for tokens in [1, 200, 600] {
        let progress = run(&together, &file, 4, tokens);
        assert!(progress.tokens >= tokens, "{progress:?}");
    }
    let (alone, together) = (by_job(&alone), by_job(&together));
    let mut both = 0;
    for sequence in &alone {
        let same = together.iter().filter(|other| other.job == sequence.job);
        both += same.inspect(|other| assert_eq!(*other, sequence)).count();
    }
    assert!(both >= 2, "{both} texts in common");
}

#[test]
fn given_prompts_come_first_and_candidates_are_what_the_model_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    let work = folder.path().join("work");
    run(&work, &file, 2, 300);
    let sequences = by_job(&work);
    let dialogue = Dialogue::of_model(&file).unwrap();
    let prompt = dialogue.prompt("What is a cat?").unwrap();
    assert!(sequences.iter().any(|sequence| sequence.tokens.starts_with(&prompt)), "the given prompt was answered");
    let mut teacher = teacher(&file, 1);
    for sequence in &sequences {
        teacher.truncate(SlotId(0), 0);
        let (prompt, answer) = sequence.tokens.split_at(sequence.answer_start);
        let mut read = prompt;
        for (index, token) in (0..).zip(answer) {
            let last = teacher.advance(&[(SlotId(0), read)]).unwrap().last.to_vec();
            let state = &last[last.len() - teacher.width()..];
            let candidates = Candidates::of(teacher.score(state).unwrap(), 1).unwrap();
            assert_eq!(sequence.expected(index), candidates.best());
            assert!(!sequence.greedy || *token == candidates.best());
            read = std::slice::from_ref(token);
        }
    }
}

#[test]
fn a_model_without_a_template_continues_texts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    SyntheticModel::new(Architecture::Llama).write(&path).unwrap();
    let file = Arc::new(ModelFile::open(&path).unwrap());
    run(folder.path(), &file, 2, 200);
    let dialogue = Dialogue::of_model(&file).unwrap();
    let sequences = by_job(folder.path());
    assert!(sequences.iter().any(|sequence| sequence.job < GIVEN), "texts of its own");
    for sequence in &sequences {
        assert!(sequence.tokens.starts_with(dialogue.opening()) && sequence.answer_start > dialogue.opening().len());
    }
}

#[test]
fn short_slots_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = model(folder.path());
    let options = TeacherOptions { upload_at: 2, slots: 1, context: CONTEXT - 1, threads: Threads::unbound(1) };
    let mut teacher = Teacher::load(&file, &options).unwrap();
    let mut corpus = CorpusWriter::open(folder.path(), &SOURCE, 7).unwrap();
    let options = TextOptions { tokens: 1, seed: 7, prompts: Vec::new() };
    let result = write(&mut teacher, &Dialogue::of_model(&file).unwrap(), &mut corpus, &options, &mut |_| ());
    assert!(matches!(result, Err(TuneError::Options(_))), "{result:?}");
}
