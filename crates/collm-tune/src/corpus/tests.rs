use super::*;

const SOURCE: Digest = Digest([7; 32]);

fn append(writer: &mut CorpusWriter, job: u64) {
    let tokens = [1, 2, 3, 4, 5].map(TokenId);
    let draft = Draft {
        job,
        prompt_hash: job * 10 + 8,
        greedy: job == 1,
        tokens: &tokens,
        answer_start: 3,
        candidate_ids: &[4, 9, 5, 8].map(TokenId),
        candidate_log_probabilities: &[-0.5, -1.0, -0.25, -2.0],
    };
    writer.append(draft).unwrap();
}

fn two_texts(folder: &Path) -> PathBuf {
    let mut writer = CorpusWriter::open(folder, &SOURCE, 1).unwrap();
    append(&mut writer, 1);
    writer.skip(2, 20).unwrap();
    append(&mut writer, 3);
    folder.join(FILE_NAME)
}

#[test]
fn what_was_written_is_read() {
    let folder = tempfile::tempdir().unwrap();
    two_texts(folder.path());
    let corpus = Corpus::read(folder.path(), &SOURCE).unwrap();
    assert_eq!(corpus.sequences().map(|sequence| sequence.job).collect::<Vec<_>>(), [1, 3]);
    let first = corpus.sequences().next().unwrap();
    assert_eq!((first.greedy, first.answer(), first.share()), (true, [4, 5].map(TokenId).as_slice(), Share::HeldBack));
    assert_eq!(first.expected(1), TokenId(5));
    assert_eq!(first.candidates(0), ([4, 9].as_slice(), [f16::from_f32(-0.5), f16::from_f32(-1.0)].as_slice()));
    assert_eq!(corpus.answer_tokens(), 4);
}

#[test]
fn writing_goes_on_after_any_interruption() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_texts(folder.path());
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let mut writer = CorpusWriter::open(folder.path(), &SOURCE, 1).unwrap();
        for job in [1, 3].into_iter().filter(|job| !writer.has_job(*job)).collect::<Vec<_>>() {
            append(&mut writer, job);
        }
        assert!(writer.has_prompt(18) && !writer.has_prompt(28));
        drop(writer);
        assert_eq!(Corpus::read(folder.path(), &SOURCE).unwrap().answer_tokens(), 4, "cut at {length}");
    }
}

#[test]
fn damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = two_texts(folder.path());
    let whole = fs::read(&path).unwrap();
    for at in [HEADER_BYTES + 5, HEADER_BYTES + 30] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        let error = Corpus::read(folder.path(), &SOURCE).unwrap_err();
        assert!(matches!(error, TuneError::Damaged { at, .. } if at == HEADER_BYTES as u64), "{error}");
    }
}

#[test]
fn one_model_one_seed_one_writer() {
    let folder = tempfile::tempdir().unwrap();
    let writer = CorpusWriter::open(folder.path(), &SOURCE, 1).unwrap();
    assert!(matches!(CorpusWriter::open(folder.path(), &SOURCE, 1), Err(TuneError::Busy(_))));
    drop(writer);
    for (source, seed, what) in [(Digest([8; 32]), 1, "another model"), (SOURCE, 2, "another seed")] {
        let error = CorpusWriter::open(folder.path(), &source, seed).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
    assert!(Corpus::read(folder.path(), &SOURCE).unwrap().sequences().next().is_none());
}

#[test]
fn shares_are_eight_one_and_one() {
    let folder = tempfile::tempdir().unwrap();
    let mut counts = [0; 3];
    let mut writer = CorpusWriter::open(folder.path(), &SOURCE, 1).unwrap();
    append(&mut writer, 1);
    let corpus = Corpus::read(folder.path(), &SOURCE).unwrap();
    for prompt in 0..1000_u32 {
        let prompt_hash = hash(&prompt.to_le_bytes());
        counts[Sequence { prompt_hash, ..corpus.sequences[0].clone() }.share() as usize] += 1;
    }
    assert!(counts[0] > 750 && counts[1] > 70 && counts[2] > 70, "{counts:?}");
}
