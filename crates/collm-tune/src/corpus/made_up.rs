//! Texts without meaning, for tests.

use std::path::Path;

use collm_engine::{SlotId, TokenId};
use collm_model::Digest;

use super::{Corpus, CorpusWriter, Draft};
use crate::Teacher;
use crate::candidates::Candidates;

/// Tokens of every prompt.
pub(crate) const ANSWER_START: usize = 5;

/// Texts of `length` tokens with these hashes of their prompts, which decide the share of each; what is said everywhere is what the
/// teacher says there.
pub(crate) fn write(
    folder: &Path,
    source: &Digest,
    teacher: &mut Teacher,
    length: usize,
    prompt_hashes: impl IntoIterator<Item = u64>,
) -> Corpus {
    let mut writer = CorpusWriter::open(folder, source, 1).unwrap();
    for (job, prompt_hash) in (0..).zip(prompt_hashes) {
        let tokens: Vec<TokenId> =
            (0..length as u64).map(|at| TokenId((3 + (at * 7 + job * 31) % 250) as u32)).collect();
        teacher.truncate(SlotId(0), 0);
        let last = teacher.advance(&[(SlotId(0), &tokens[..length - 1])]).unwrap().last.to_vec();
        let vocabulary = teacher.vocabulary();
        let logits = teacher.score(&last[(ANSWER_START - 1) * teacher.width()..]).unwrap();
        let best = |logits: &[f32]| Candidates::of(logits, 1).unwrap().best();
        let said: Vec<TokenId> = logits.chunks_exact(vocabulary).map(best).collect();
        let draft = Draft {
            job,
            prompt_hash,
            greedy: false,
            tokens: &tokens,
            answer_start: ANSWER_START,
            candidate_ids: &said,
            candidate_log_probabilities: &vec![0.0; length - ANSWER_START],
        };
        writer.append(draft).unwrap();
    }
    Corpus::read(folder, source).unwrap()
}
