//! What every engine refuses before it computes, in one place: the rows of a call are parsed into spans, or named as the
//! caller's fault while every slot is still as it was.

use crate::{EngineError, Head, Input, Position, Row, Scope, Shape, SlotId, Stack};

/// Adjacent rows of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Whose rows.
    pub slot: SlotId,
    /// Index in the call of the first of them.
    pub first_row: usize,
    /// How many.
    pub rows: usize,
    /// Position of the first of them, which is also what the slot held before the call.
    pub start: Position,
}

impl Shape {
    /// Parses the arguments of [`crate::Engine::run`] into one span a slot, in the order of the rows.
    /// `filled` gives the positions that the stack holds in a slot.
    ///
    /// # Errors
    /// Every refusal of [`crate::Engine::run`] but [`EngineError::Device`].
    pub fn parse_run(
        &self,
        stack: Stack,
        rows: &[Row],
        input: Input<'_>,
        filled: impl Fn(SlotId) -> usize,
    ) -> Result<Vec<Span>, EngineError> {
        if !self.stacks.contains(&stack) {
            return Err(EngineError::NoStack(stack));
        }
        self.check_row_count(rows.len())?;
        self.check_input(stack, rows.len(), input)?;
        self.spans(rows, filled)
    }

    /// Checks the arguments of [`crate::Engine::score`] and returns the number of hidden states. `shortlist` is the length of the head's.
    ///
    /// # Errors
    /// Every refusal of [`crate::Engine::score`] but [`EngineError::Device`].
    pub fn parse_score(
        &self,
        head: Head,
        scope: Scope,
        hidden: &[f32],
        shortlist: Option<usize>,
    ) -> Result<usize, EngineError> {
        if !self.heads.contains(&head) {
            return Err(EngineError::NoHead(head));
        }
        if scope == Scope::Shortlist && shortlist.is_none() {
            return Err(EngineError::NoShortlist(head));
        }
        if !hidden.len().is_multiple_of(self.width) {
            return Err(EngineError::Input(format!(
                "{} floats are not a whole number of hidden states of width {}",
                hidden.len(),
                self.width
            )));
        }
        let rows = hidden.len() / self.width;
        self.check_row_count(rows)?;
        self.check_finite(hidden)?;
        Ok(rows)
    }

    fn check_row_count(&self, rows: usize) -> Result<(), EngineError> {
        let limit = self.batch_rows_max;
        if rows > limit { Err(EngineError::BatchTooLarge { rows, limit }) } else { Ok(()) }
    }

    fn check_input(&self, stack: Stack, rows: usize, input: Input<'_>) -> Result<(), EngineError> {
        match (stack, input) {
            (Stack::Lower, Input::Tokens(tokens)) => {
                if tokens.len() != rows {
                    return Err(EngineError::Input(format!("{} tokens for {rows} rows", tokens.len())));
                }
                match tokens.iter().find(|token| token.0 as usize >= self.vocabulary) {
                    Some(token) => Err(EngineError::Input(format!(
                        "token {token} is outside the vocabulary of {}",
                        self.vocabulary
                    ))),
                    None => Ok(()),
                }
            }
            (Stack::Tail | Stack::Upper, Input::Hidden(hidden)) => {
                if hidden.len() != rows * self.width {
                    return Err(EngineError::Input(format!(
                        "{} floats for {rows} rows of width {}",
                        hidden.len(),
                        self.width
                    )));
                }
                self.check_finite(hidden)
            }
            (Stack::Lower, Input::Hidden(_)) => {
                Err(EngineError::Input("the lower stack takes token ids, not hidden states".into()))
            }
            (stack, Input::Tokens(_)) => {
                Err(EngineError::Input(format!("the {stack:?} stack takes hidden states, not token ids")))
            }
        }
    }

    fn check_finite(&self, hidden: &[f32]) -> Result<(), EngineError> {
        match hidden.chunks_exact(self.width).position(|state| !all_finite(state)) {
            Some(row) => Err(EngineError::NotFinite { row }),
            None => Ok(()),
        }
    }

    fn spans(&self, rows: &[Row], filled: impl Fn(SlotId) -> usize) -> Result<Vec<Span>, EngineError> {
        let mut spans: Vec<Span> = Vec::new();
        for (index, row) in rows.iter().enumerate() {
            if row.slot.0 as usize >= self.slots {
                return Err(EngineError::NoSlot { slot: row.slot, slots: self.slots });
            }
            match spans.last_mut().filter(|span| span.slot == row.slot) {
                Some(span) => {
                    self.check_position(*row, span.start.index() + span.rows)?;
                    span.rows += 1;
                }
                None => {
                    if spans.iter().any(|span| span.slot == row.slot) {
                        return Err(EngineError::Input(format!("rows of slot {} are not adjacent", row.slot)));
                    }
                    self.check_position(*row, filled(row.slot))?;
                    spans.push(Span { slot: row.slot, first_row: index, rows: 1, start: row.position });
                }
            }
        }
        Ok(spans)
    }

    fn check_position(&self, row: Row, filled: usize) -> Result<(), EngineError> {
        if row.position.index() != filled {
            return Err(EngineError::Gap { slot: row.slot, filled, given: row.position });
        }
        if filled >= self.context {
            return Err(EngineError::ContextFull { slot: row.slot, context: self.context });
        }
        Ok(())
    }
}

/// Without a branch a value, so that it vectorises: this runs over every hidden state that enters an engine.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, value| finite & value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TokenId;

    fn shape() -> Shape {
        Shape {
            width: 2,
            vocabulary: 8,
            slots: 2,
            context: 4,
            batch_rows_max: 3,
            stacks: vec![Stack::Lower, Stack::Upper],
            heads: vec![Head::Final],
        }
    }

    fn row(slot: u32, position: u32) -> Row {
        Row { slot: SlotId(slot), position: Position(position) }
    }

    /// Slot 0 holds one position, slot 1 is full.
    fn lower(rows: &[Row]) -> Result<Vec<Span>, EngineError> {
        let tokens = vec![TokenId(1); rows.len()];
        shape().parse_run(Stack::Lower, rows, Input::Tokens(&tokens), |slot| if slot.0 == 0 { 1 } else { 4 })
    }

    #[test]
    fn rows_become_spans() {
        let span = Span { slot: SlotId(0), first_row: 0, rows: 2, start: Position(1) };
        assert_eq!(lower(&[row(0, 1), row(0, 2)]), Ok(vec![span]));
        assert_eq!(lower(&[]), Ok(vec![]));
    }

    #[test]
    fn misplaced_rows_are_named() {
        assert_eq!(lower(&[row(0, 2)]), Err(EngineError::Gap { slot: SlotId(0), filled: 1, given: Position(2) }));
        assert_eq!(lower(&[row(1, 4)]), Err(EngineError::ContextFull { slot: SlotId(1), context: 4 }));
        assert_eq!(lower(&[row(2, 0)]), Err(EngineError::NoSlot { slot: SlotId(2), slots: 2 }));
        let too_many = [row(0, 1), row(0, 2), row(0, 3), row(0, 4)];
        assert_eq!(lower(&too_many), Err(EngineError::BatchTooLarge { rows: 4, limit: 3 }));
    }

    #[test]
    fn wrong_input_is_named() {
        let upper = |hidden: &[f32]| shape().parse_run(Stack::Upper, &[row(0, 0)], Input::Hidden(hidden), |_| 0);
        assert!(upper(&[0.0, 1.0]).is_ok());
        assert_eq!(upper(&[0.0, f32::NAN]), Err(EngineError::NotFinite { row: 0 }));
        assert!(matches!(upper(&[0.0]), Err(EngineError::Input(_))));
        let unknown = shape().parse_run(Stack::Lower, &[row(0, 0)], Input::Tokens(&[TokenId(8)]), |_| 0);
        assert!(matches!(unknown, Err(EngineError::Input(_))));
        let absent = shape().parse_run(Stack::Tail, &[], Input::Hidden(&[]), |_| 0);
        assert_eq!(absent, Err(EngineError::NoStack(Stack::Tail)));
        assert_eq!(shape().parse_score(Head::Exit1, Scope::Full, &[], None), Err(EngineError::NoHead(Head::Exit1)));
        let brief = |shortlist| shape().parse_score(Head::Final, Scope::Shortlist, &[], shortlist);
        assert_eq!(brief(None), Err(EngineError::NoShortlist(Head::Final)));
        assert_eq!(brief(Some(1)), Ok(0));
    }
}
