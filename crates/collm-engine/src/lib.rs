//! The seam between the collaboration and the tensors: what an engine must do, and nothing of how.
//!
//! An [`Engine`] holds the layers of one model file in *stacks*, and key-value memory in *slots*. It is synchronous, batch
//! first and owned by one thread. Deliberately absent: exits' policies, sampling, uploads, sessions. Those are decided by
//! `collm-core` from the logits an engine returns.

pub mod batch;
pub mod conformance;
mod error;
mod interrupt;
pub mod scripted;

use std::sync::Arc;

pub use collm_core::ids::{Position, SlotId, TokenId};
pub use collm_core::policy::Scope;
pub use error::EngineError;
pub use interrupt::Interrupt;

/// A run of layers with key-value memory of its own. An engine has one to three, fixed when it is loaded:
///
/// | file, role | stacks |
/// |---|---|
/// | edge part | `Lower` = `[0, e1)`, `Tail` = the tail's layers |
/// | cloud part | `Upper` = `[e1, N)` |
/// | whole model | `Lower` = `[0, e1)`, `Upper` = `[e1, N)` |
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stack {
    /// Layers `[0, e1)`: input token ids, output the hidden state that is uploaded.
    Lower,
    /// The edge's own layers after `e1`.
    Tail,
    /// Layers `[e1, N)`, the cloud's share.
    Upper,
}

/// What turns a hidden state into logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Head {
    /// Exit 1, on the output of [`Stack::Lower`].
    Exit1,
    /// Exit 2, on the output of [`Stack::Tail`].
    Exit2,
    /// The model's own final norm and LM head, on the output of the last layer.
    Final,
}

/// One position of one session in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Whose key-value memory.
    pub slot: SlotId,
    /// Where in it. Rows of a slot in one call are adjacent, consecutive and start at the stack's filled length.
    pub position: Position,
}

/// What the rows of a batch carry into a stack.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// One token id a row. Only into a stack that starts at layer 0.
    Tokens(&'a [TokenId]),
    /// `rows * width` floats, row after row. Only into a stack that does not start at layer 0.
    Hidden(&'a [f32]),
}

/// What scoring leaves. Kept by the caller, so that its memory is used again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// For every state one logit a token of the vocabulary; none in [`Scope::Shortlist`].
    pub logits: Vec<f32>,
    /// What each state's shortlist has, in either scope, if the head makes one.
    pub shortlists: Shortlists,
    /// `width` floats a state: what the LM head read, which is the hidden state after the head's norm and, if it has them, its map
    /// and its MLP.
    pub states: Vec<f32>,
}

/// The shortlists of some states, one after the other: the tokens that a head finds worth scoring after each, and their logits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shortlists {
    /// Ascending for each state.
    pub tokens: Vec<TokenId>,
    /// One a token.
    pub logits: Vec<f32>,
}

/// What scoring leaves of one state.
#[derive(Debug, PartialEq)]
pub struct ScoredRow<'a> {
    /// One a token of the vocabulary; none where only the shortlist was scored.
    pub logits: &'a mut [f32],
    /// If the head makes one.
    pub shortlist: Option<Shortlist<'a>>,
    /// What the LM head read.
    pub state: &'a [f32],
}

impl ScoredRow<'_> {
    /// Gives the tokens of the shortlist the logits that they have there in all of the vocabulary, too, if it was scored: so that a token
    /// has one logit, whatever was scored beside it.
    pub fn unify(&mut self) {
        if let Some(shortlist) = self.shortlist.as_ref().filter(|_| !self.logits.is_empty()) {
            shortlist.write_to(self.logits);
        }
    }
}

/// The shortlist of one state, at least one token.
#[derive(Debug, PartialEq)]
pub struct Shortlist<'a> {
    /// Ascending.
    pub tokens: &'a [TokenId],
    /// One a token.
    pub logits: &'a mut [f32],
}

impl Shortlist<'_> {
    /// Puts each logit at its token's place among those of the whole vocabulary.
    pub fn write_to(&self, logits: &mut [f32]) {
        for (token, logit) in self.tokens.iter().zip(&*self.logits) {
            logits[token.0 as usize] = *logit;
        }
    }
}

impl Scores {
    /// What there is of each state, which is `width` floats.
    pub fn rows(&mut self, width: usize) -> impl Iterator<Item = ScoredRow<'_>> {
        let rows = self.states.len() / width;
        let of_row = |values: usize| values.checked_div(rows).unwrap_or(0);
        let (vocabulary, length) = (of_row(self.logits.len()), of_row(self.shortlists.tokens.len()));
        let [mut logits, mut listed] = [&mut self.logits, &mut self.shortlists.logits].map(Vec::as_mut_slice);
        let mut tokens = self.shortlists.tokens.as_slice();
        let enough = "as many values for every state";
        self.states.chunks_exact(width).map(move |state| {
            let shortlist = Shortlist {
                tokens: tokens.split_off(..length).expect(enough),
                logits: listed.split_off_mut(..length).expect(enough),
            };
            let logits = logits.split_off_mut(..vocabulary).expect(enough);
            ScoredRow { logits, shortlist: Some(shortlist).filter(|_| length > 0), state }
        })
    }

    /// Empties all of it.
    pub fn clear(&mut self) {
        self.logits.clear();
        self.shortlists.tokens.clear();
        self.shortlists.logits.clear();
        self.states.clear();
    }
}

/// What tokens add to a text.
pub trait TokenTexts: Send + Sync {
    /// The token's bytes; none for markup and for tokens that are not there.
    fn bytes(&self, token: TokenId) -> &[u8];

    /// Whether it ends a text.
    fn ends(&self, token: TokenId) -> bool;
}

/// Sizes that callers plan with; all fixed when the engine is loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Floats in a hidden state.
    pub width: usize,
    /// Logits per row.
    pub vocabulary: usize,
    /// Key-value slots.
    pub slots: usize,
    /// Positions a slot holds.
    pub context: usize,
    /// Rows that one call may carry; more is [`EngineError::BatchTooLarge`].
    pub batch_rows_max: usize,
    /// The stacks this engine has, in order of layers.
    pub stacks: Vec<Stack>,
    /// The heads this engine has.
    pub heads: Vec<Head>,
}

/// Positions `[64k, 64k + 64)` of a slot are a block: as many as the fastest attention kernels work on together. Those kernels may
/// add in another order than the kernels for fewer rows, so that a position's result may depend on whether its block comes whole.
pub const BLOCK_ROWS: usize = 64;

/// Positions before this one are never computed by those kernels, so that they may come in any pieces: there is little to look back at
/// yet, and a short prompt that comes in small pieces is computed on two machines at once.
pub const FIRST_BLOCK: usize = 256;

/// Runs stacks of layers over rows of several slots at once.
///
/// Laws, checked by [`conformance::check`]:
/// - rows in one batch = the same rows one by one, except that a block ([`BLOCK_ROWS`]) from [`FIRST_BLOCK`] on that comes whole in one
///   call may differ in the last bits from one that comes in pieces;
/// - truncate to `p` and recompute = never having gone past `p`;
/// - a state's shortlist is the same in every scope, and a token's logit there is its logit in the whole vocabulary, but for what
///   rounding a state for the one product and not for the other makes of it;
/// - slots do not see each other.
pub trait Engine {
    /// Sizes fixed at load.
    fn shape(&self) -> &Shape;

    /// Runs `stack` over `rows` and leaves its output, `rows.len() * width` floats, in `hidden` (cleared first).
    /// The slots' filled lengths of this stack grow by their rows.
    ///
    /// # Errors
    /// A [`EngineError`] that names the caller's fault (wrong position, no such stack, full slot, non-finite input) leaves every slot as
    /// it was. [`EngineError::Interrupted`] leaves it with what it held, and maybe some of these rows. [`EngineError::Device`] leaves the
    /// slots of these rows undefined: truncate them to 0.
    fn run(&mut self, stack: Stack, rows: &[Row], input: Input<'_>, hidden: &mut Vec<f32>) -> Result<(), EngineError>;

    /// Scores hidden states (`n * width` floats) with `head` and leaves what comes of it in `scores` (cleared first).
    ///
    /// # Errors
    /// As [`Engine::run`], and [`EngineError::NoShortlist`]; no slot is touched.
    fn score(&mut self, head: Head, scope: Scope, hidden: &[f32], scores: &mut Scores) -> Result<(), EngineError>;

    /// Tokens in the shortlist that the head makes for a state, at least one, if it makes any.
    fn shortlist(&self, head: Head) -> Option<usize>;

    /// The texts of the tokens, for answers that must have a form.
    ///
    /// # Errors
    /// [`EngineError::NoTexts`] if the engine does not know them.
    fn token_texts(&mut self) -> Result<Arc<dyn TokenTexts>, EngineError> {
        Err(EngineError::NoTexts("it was made without a vocabulary".into()))
    }

    /// Has calls end early with [`EngineError::Interrupted`] when `interrupt` says so. Engines that cannot end a call run it to its end.
    fn heed(&mut self, interrupt: Arc<Interrupt>) {
        drop(interrupt);
    }

    /// Positions that `stack` holds in `slot`.
    fn filled(&self, stack: Stack, slot: SlotId) -> usize;

    /// Forgets positions from `length` on, in every stack that has more. Truncating to 0 frees the slot.
    fn truncate(&mut self, slot: SlotId, length: usize);
}
