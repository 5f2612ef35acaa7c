//! Reads texts with a whole model or an edge part, and shows what its heads say at every position: whoever generates,
//! compares, calibrates or fits gates looks at the same.
//!
//! Prompts are computed in whole blocks and what follows never, as nodes compute them, so that what a head says here is what
//! it says there, to the last bit. Deliberately absent: what a confidence is, and what is to be said instead.

use collm_engine::{
    BLOCK_ROWS, Engine, Head, Input, Position, Row, Scope, ScoredRow, Scores, Shortlist, SlotId, Stack, TokenId,
};

use crate::TuneError;

/// Positions of a prompt computed at once, whole blocks.
pub const PROMPT_ROWS: usize = 8 * BLOCK_ROWS;

/// Positions after it computed at once: never a whole block.
const ANSWER_ROWS: usize = BLOCK_ROWS - 1;

/// States scored at once: the logits of a large vocabulary take a megabyte a row.
const SCORED_ROWS: usize = 16;

/// The only slot that is used.
const SLOT: SlotId = SlotId(0);

/// An engine that reads one text after the other.
#[derive(Debug)]
pub struct Reader<E> {
    engine: E,
    heads: Vec<Head>,
    scope: Scope,
    rows: Vec<Row>,
    lower: Vec<f32>,
    upper: Vec<f32>,
    scores: Scores,
}

/// What a head says after a position.
#[derive(Debug, PartialEq)]
pub struct View<'a> {
    /// Which head.
    pub head: Head,
    /// The last position that was read.
    pub position: Position,
    /// One logit a token of the whole vocabulary; none where the head's shortlist is all that is looked at.
    pub logits: &'a [f32],
    /// The tokens that the head's check looks at and their logits, if it makes a shortlist.
    pub shortlist: Option<(&'a [TokenId], &'a [f32])>,
    /// `width` floats: what the LM head read.
    pub state: &'a [f32],
}

impl<E: Engine> Reader<E> {
    /// Around an engine with at least one slot, whose calls may carry [`PROMPT_ROWS`] rows. It shows what `heads` say, of which
    /// [`Head::Exit1`] looks at the lower stack and the others at the one after it.
    pub fn new(engine: E, heads: Vec<Head>) -> Self {
        let (rows, lower, upper, scores) = Default::default();
        Self { engine, heads, scope: Scope::Full, rows, lower, upper, scores }
    }

    /// What the heads look at from now on: the whole vocabulary at first. [`Scope::Shortlist`] is faster.
    pub fn look_at(&mut self, scope: Scope) {
        self.scope = scope;
    }

    /// The engine, to look at.
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// Begins another text with this prompt, and shows what the heads say after it.
    ///
    /// # Errors
    /// [`TuneError::Engine`] if the prompt is longer than the context, for example, or what `see` returns.
    pub fn begin<F: From<TuneError>>(
        &mut self,
        prompt: &[TokenId],
        see: &mut dyn FnMut(View<'_>) -> Result<(), F>,
    ) -> Result<(), F> {
        self.engine.truncate(SLOT, 0);
        let mut pieces = prompt.chunks(PROMPT_ROWS).peekable();
        while let Some(piece) = pieces.next() {
            self.run(piece)?;
            if pieces.peek().is_none() {
                self.show(piece.len() - 1, see)?;
            }
        }
        Ok(())
    }

    /// Reads on, and shows what the heads say after each of these tokens.
    ///
    /// # Errors
    /// As [`Reader::begin`].
    pub fn go_on<F: From<TuneError>>(
        &mut self,
        tokens: &[TokenId],
        see: &mut dyn FnMut(View<'_>) -> Result<(), F>,
    ) -> Result<(), F> {
        for piece in tokens.chunks(ANSWER_ROWS) {
            self.run(piece)?;
            self.show(0, see)?;
        }
        Ok(())
    }

    /// Computes the next tokens.
    fn run(&mut self, tokens: &[TokenId]) -> Result<(), TuneError> {
        let start = self.engine.filled(Stack::Lower, SLOT) as u32;
        self.rows.clear();
        self.rows.extend((start..).zip(tokens).map(|(at, _)| Row { slot: SLOT, position: Position(at) }));
        self.engine.run(Stack::Lower, &self.rows, Input::Tokens(tokens), &mut self.lower)?;
        let stacks = &self.engine.shape().stacks;
        let second = stacks.iter().copied().find(|stack| *stack != Stack::Lower);
        match second.filter(|_| self.heads.iter().any(|head| *head != Head::Exit1)) {
            Some(second) => self.engine.run(second, &self.rows, Input::Hidden(&self.lower), &mut self.upper)?,
            // A whole model may be one stack.
            None => self.upper.clone_from(&self.lower),
        }
        Ok(())
    }

    /// Shows what the heads say of the rows just computed, from row `first` on.
    fn show<F: From<TuneError>>(
        &mut self,
        first: usize,
        see: &mut dyn FnMut(View<'_>) -> Result<(), F>,
    ) -> Result<(), F> {
        let width = self.engine.shape().width;
        for &head in &self.heads {
            let scope = if self.engine.shortlist(head).is_some() { self.scope } else { Scope::Full };
            let states = if head == Head::Exit1 { &self.lower } else { &self.upper };
            let pieces =
                self.rows[first..].chunks(SCORED_ROWS).zip(states[first * width..].chunks(SCORED_ROWS * width));
            for (rows, states) in pieces {
                self.engine.score(head, scope, states, &mut self.scores).map_err(TuneError::from)?;
                for (row, mut scored) in rows.iter().zip(self.scores.rows(width)) {
                    scored.unify();
                    let ScoredRow { logits, shortlist, state } = scored;
                    let shortlist = shortlist.map(|Shortlist { tokens, logits }| (tokens, &*logits));
                    see(View { head, position: row.position, logits, shortlist, state })?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use collm_engine::scripted::{Script, ScriptedEngine, Sizes};

    use super::*;

    const SIZES: Sizes = Sizes { slots: 1, context: 2048, batch_rows_max: PROMPT_ROWS };

    fn tokens(count: u32) -> Vec<TokenId> {
        (0..count).map(|index| TokenId(1 + index * 7 % 40)).collect()
    }

    /// What a reader shows: head, position and the most likely token.
    fn shown(
        engine: ScriptedEngine,
        heads: &[Head],
        prompt: &[TokenId],
        answer: &[TokenId],
    ) -> Vec<(Head, u32, TokenId)> {
        let mut reader = Reader::new(engine, heads.to_vec());
        let mut shown = Vec::new();
        let mut see = |view: View<'_>| -> Result<(), TuneError> {
            let best = (0..).zip(view.logits.iter()).max_by(|one, other| one.1.total_cmp(other.1)).expect("logits").0;
            shown.push((view.head, view.position.0, TokenId(best)));
            Ok(())
        };
        reader.begin(prompt, &mut see).expect("a prompt that fits");
        reader.go_on(answer, &mut see).expect("an answer that fits");
        assert_eq!(reader.engine().counts().discontinuities, 0);
        shown
    }

    #[test]
    fn every_position_is_seen_by_every_head() {
        let (script, all) = (Script::default(), tokens(700));
        // A prompt of several calls, an answer of several calls and several scorings.
        let (prompt, answer) = all.split_at(600);
        let mut seen = shown(ScriptedEngine::edge(script.clone(), SIZES), &[Head::Exit1, Head::Exit2], prompt, answer);
        seen.sort_unstable_by_key(|(head, position, _)| (*head, *position));
        let expected = [Head::Exit1, Head::Exit2].into_iter().flat_map(|head| {
            let (script, all) = (&script, &all);
            (600..=700).map(move |length| (head, length as u32 - 1, script.guess(head, &all[..length]).0))
        });
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }

    #[test]
    fn a_whole_model_says_its_own_tokens() {
        let (script, all) = (Script::default(), tokens(20));
        let seen = shown(ScriptedEngine::whole(script.clone(), SIZES), &[Head::Final], &all[..12], &all[12..]);
        let expected = (12..=20).map(|length| (Head::Final, length as u32 - 1, script.truth(&all[..length])));
        assert_eq!(seen, expected.collect::<Vec<_>>());
    }

    #[test]
    fn too_long_a_text_is_refused() {
        let engine = ScriptedEngine::edge(Script::default(), Sizes { context: 8, ..SIZES });
        let mut reader = Reader::new(engine, vec![Head::Exit2]);
        let refused = reader.begin(&tokens(9), &mut |_| Ok::<_, TuneError>(()));
        assert!(matches!(refused, Err(TuneError::Engine(_))), "{refused:?}");
    }
}
