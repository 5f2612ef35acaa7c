//! A text as bytes, little-endian: length and checksum of the payload, then the payload.

use collm_engine::TokenId;
use half::f16;

use super::{Draft, Sequence, hash};

/// Length, checksum.
const FRAME_BYTES: usize = 4 + 8;

/// No record is longer: one of the longest texts takes about a third.
pub(super) const BYTES_MAX: usize = 1 << 17;

/// Job, prompt hash, whether greedy, answer start, tokens, candidates.
const FIXED_BYTES: usize = 8 + 8 + 4 + 4 + 4 + 4;

pub(super) fn encode(draft: &Draft<'_>) -> Vec<u8> {
    let mut payload = Vec::new();
    payload.extend(draft.job.to_le_bytes());
    payload.extend(draft.prompt_hash.to_le_bytes());
    let counts = [draft.answer_start, draft.tokens.len(), draft.candidate_ids.len()];
    payload.extend(u32::from(draft.greedy).to_le_bytes());
    payload.extend(counts.into_iter().flat_map(|count| (count as u32).to_le_bytes()));
    payload.extend(draft.tokens.iter().chain(draft.candidate_ids).flat_map(|token| token.0.to_le_bytes()));
    let halves = draft.candidate_log_probabilities.iter().map(|value| f16::from_f32(*value));
    payload.extend(halves.flat_map(f16::to_le_bytes));
    let length = (payload.len() as u32).to_le_bytes();
    [length.as_slice(), &hash(&payload).to_le_bytes(), &payload].concat()
}

/// The payload of the record at `at`, `None` if it is damaged, and where the record ends. `None` if no whole record follows.
pub(super) fn next(bytes: &[u8], at: usize) -> Option<(Option<&[u8]>, usize)> {
    let mut fields = Fields(bytes.get(at..)?);
    let (length, checksum) = (fields.number()? as usize, fields.long()?);
    if length > BYTES_MAX {
        // No record that was cut off: its length is damaged, and what follows is not to be thrown away.
        return Some((None, at));
    }
    let payload = fields.0.get(..length)?;
    Some(((hash(payload) == checksum).then_some(payload), at + FRAME_BYTES + length))
}

pub(super) fn decode(payload: &[u8]) -> Option<Sequence> {
    let mut fields = Fields(payload);
    let (job, prompt_hash) = (fields.long()?, fields.long()?);
    let [greedy, answer_start, tokens, candidates] =
        [fields.number()?, fields.number()?, fields.number()?, fields.number()?].map(|number| number as usize);
    let expected = tokens.checked_mul(4)?.checked_add(candidates.checked_mul(6)?)?.checked_add(FIXED_BYTES)?;
    let whole = match (tokens, answer_start, tokens.checked_sub(answer_start)?) {
        // Not worth having, and known to be.
        (0, 0, 0) => candidates == 0,
        (_, 1.., answer @ 1..) => candidates > 0 && candidates.is_multiple_of(answer),
        _ => false,
    };
    if payload.len() != expected || !whole {
        return None;
    }
    let ids = |bytes: &[u8]| bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect::<Vec<_>>();
    let (token_bytes, rest) = fields.0.split_at(4 * tokens);
    let (candidate_bytes, rest) = rest.split_at(4 * candidates);
    Some(Sequence {
        job,
        prompt_hash,
        greedy: greedy != 0,
        tokens: ids(token_bytes).into_iter().map(TokenId).collect(),
        answer_start,
        candidate_ids: ids(candidate_bytes),
        candidate_log_probabilities: rest.as_chunks::<2>().0.iter().map(|half| f16::from_le_bytes(*half)).collect(),
    })
}

/// What is left to read.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*bytes))
    }

    fn long(&mut self) -> Option<u64> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*bytes))
    }
}
