//! Grammars as trees, and their translation into programs.

use super::{Grammar, Step};

/// A part of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// These bytes.
    Text(Vec<u8>),
    /// One byte from the first to the last.
    Range(u8, u8),
    /// One after the other.
    Sequence(Vec<Expression>),
    /// One of these; none of none.
    Choice(Vec<Expression>),
    /// So often at least and, if there is a second number, at most.
    Repeat(Box<Expression>, u32, Option<u32>),
    /// The rule of this index.
    Rule(usize),
}

/// The program would have more steps than a grammar may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the form is too large; it takes more than {} steps to describe", Grammar::STEPS_MAX)]
pub struct TooLarge;

impl Expression {
    /// These characters.
    pub fn text(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }

    /// Any number of times.
    #[must_use]
    pub fn any_number(self) -> Self {
        Self::Repeat(Box::new(self), 0, None)
    }

    /// Once or not at all.
    #[must_use]
    pub fn optional(self) -> Self {
        Self::Repeat(Box::new(self), 0, Some(1))
    }

    /// Expressions in it, itself included; the bytes of a text count each.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(bytes) => bytes.len().max(1),
            Self::Range(..) | Self::Rule(_) => 1,
            Self::Sequence(parts) | Self::Choice(parts) => 1 + parts.iter().map(Self::size).sum::<usize>(),
            Self::Repeat(part, ..) => 1 + part.size(),
        }
    }

    /// The grammar whose rules these are, the first of which is the whole text. An index that names no rule stands for nothing.
    ///
    /// # Errors
    /// When the program is too large.
    pub fn compile(rules: &[Self]) -> Result<Grammar, TooLarge> {
        let mut writer = Writer::default();
        let mut starts = Vec::with_capacity(rules.len());
        for rule in rules {
            starts.push(writer.here()?);
            writer.expression(rule)?;
            writer.push(Step::Return)?;
        }
        // Where a rule is that does not exist: a place without a way on.
        let nothing = writer.here()?;
        writer.push(Step::Jump(nothing))?;
        for call in &mut writer.steps {
            if let Step::Call(rule) = call {
                *rule = starts.get(*rule as usize).copied().unwrap_or(nothing);
            }
        }
        Grammar::parse(writer.steps).map_err(|_| TooLarge)
    }
}

/// A program in the making. Calls name rules until all of these have places.
#[derive(Debug, Default)]
struct Writer {
    steps: Vec<Step>,
}

impl Writer {
    fn here(&self) -> Result<u32, TooLarge> {
        if self.steps.len() < Grammar::STEPS_MAX { Ok(self.steps.len() as u32) } else { Err(TooLarge) }
    }

    fn push(&mut self, step: Step) -> Result<usize, TooLarge> {
        self.here()?;
        self.steps.push(step);
        Ok(self.steps.len() - 1)
    }

    fn expression(&mut self, expression: &Expression) -> Result<(), TooLarge> {
        match expression {
            Expression::Text(bytes) => {
                bytes.iter().try_for_each(|&byte| self.push(Step::Byte { low: byte, high: byte }).map(drop))
            }
            Expression::Range(low, high) => self.push(Step::Byte { low: *low, high: *high }).map(drop),
            Expression::Sequence(parts) => parts.iter().try_for_each(|part| self.expression(part)),
            Expression::Choice(parts) => self.choice(parts),
            Expression::Repeat(part, min, max) => self.repeat(part, *min, *max),
            Expression::Rule(index) => self.push(Step::Call(u32::try_from(*index).unwrap_or(u32::MAX))).map(drop),
        }
    }

    fn choice(&mut self, parts: &[Expression]) -> Result<(), TooLarge> {
        let Some((last, others)) = parts.split_last() else {
            let here = self.here()?;
            return self.push(Step::Jump(here)).map(drop);
        };
        let mut exits = Vec::with_capacity(others.len());
        for part in others {
            let fork = self.push(Step::Return)?;
            self.expression(part)?;
            exits.push(self.push(Step::Return)?);
            self.steps[fork] = Step::Either(fork as u32 + 1, self.here()?);
        }
        self.expression(last)?;
        let end = self.here()?;
        exits.into_iter().for_each(|exit| self.steps[exit] = Step::Jump(end));
        Ok(())
    }

    fn repeat(&mut self, part: &Expression, min: u32, max: Option<u32>) -> Result<(), TooLarge> {
        // Of something without steps there could be any number.
        if max.unwrap_or(min) as usize > Grammar::STEPS_MAX {
            return Err(TooLarge);
        }
        (0..min).try_for_each(|_| self.expression(part))?;
        let Some(max) = max else {
            let fork = self.push(Step::Return)?;
            self.expression(part)?;
            self.push(Step::Jump(fork as u32))?;
            self.steps[fork] = Step::Either(fork as u32 + 1, self.here()?);
            return Ok(());
        };
        let mut forks = Vec::new();
        for _ in min..max {
            forks.push(self.push(Step::Return)?);
            self.expression(part)?;
        }
        let end = self.here()?;
        forks.into_iter().for_each(|fork| self.steps[fork] = Step::Either(fork as u32 + 1, end));
        Ok(())
    }
}
