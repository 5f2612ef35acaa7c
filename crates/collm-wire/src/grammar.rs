//! Grammars as numbers: three a step, its kind and what belongs to it.

use collm_core::grammar::{Grammar, GrammarError, Step};

use crate::{WireError, proto};

const NUMBERS_A_STEP: usize = 3;

const BYTE: u32 = 0;
const EITHER: u32 = 1;
const JUMP: u32 = 2;
const CALL: u32 = 3;
const RETURN: u32 = 4;

pub(crate) fn emit_grammar(grammar: &Grammar) -> proto::Grammar {
    let numbers = |step: &Step| match *step {
        Step::Byte { low, high } => [BYTE, low.into(), high.into()],
        Step::Either(one, other) => [EITHER, one, other],
        Step::Jump(target) => [JUMP, target, 0],
        Step::Call(target) => [CALL, target, 0],
        Step::Return => [RETURN, 0, 0],
    };
    proto::Grammar { steps: grammar.steps().iter().flat_map(numbers).collect() }
}

pub(crate) fn parse_grammar(grammar: &proto::Grammar) -> Result<Grammar, WireError> {
    let count = grammar.steps.len();
    let (steps, rest) = grammar.steps.as_chunks::<NUMBERS_A_STEP>();
    if !rest.is_empty() {
        let wanted = count.next_multiple_of(NUMBERS_A_STEP);
        return Err(WireError::Count { field: "numbers of steps", count, wanted });
    }
    if steps.len() > Grammar::STEPS_MAX {
        return Err(GrammarError::TooLarge { steps: steps.len() }.into());
    }
    let step =
        |(step, &numbers): (usize, &[u32; 3])| parse_step(numbers).ok_or(WireError::UnknownStep { step, numbers });
    Ok(Grammar::parse(steps.iter().enumerate().map(step).collect::<Result<_, _>>()?)?)
}

fn parse_step(numbers: [u32; 3]) -> Option<Step> {
    match numbers {
        [BYTE, low, high] => Some(Step::Byte { low: low.try_into().ok()?, high: high.try_into().ok()? }),
        [EITHER, one, other] => Some(Step::Either(one, other)),
        [JUMP, target, 0] => Some(Step::Jump(target)),
        [CALL, target, 0] => Some(Step::Call(target)),
        [RETURN, 0, 0] => Some(Step::Return),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(steps: &[u32]) -> Result<Grammar, WireError> {
        parse_grammar(&proto::Grammar { steps: steps.to_vec() })
    }

    #[test]
    fn every_step_survives() {
        let steps =
            vec![Step::Byte { low: 1, high: 255 }, Step::Either(0, 3), Step::Jump(0), Step::Call(0), Step::Return];
        let grammar = Grammar::parse(steps).expect("all lead on");
        assert_eq!(parse_grammar(&emit_grammar(&grammar)), Ok(grammar));
    }

    #[test]
    fn hostile_numbers_are_named() {
        let count = WireError::Count { field: "numbers of steps", count: 4, wanted: 6 };
        assert_eq!(parsed(&[4, 0, 0, 4]), Err(count));
        assert_eq!(parsed(&[]), Err(GrammarError::Empty.into()));
        for numbers in [[5, 0, 0], [0, 256, 0], [0, 0, 256], [2, 0, 1], [4, 1, 0], [u32::MAX; 3]] {
            assert_eq!(parsed(&numbers), Err(WireError::UnknownStep { step: 0, numbers }));
        }
        assert_eq!(parsed(&[2, u32::MAX, 0]), Err(GrammarError::Nowhere { step: 0 }.into()));
        let many = [4, 0, 0].repeat(Grammar::STEPS_MAX + 1);
        assert_eq!(parsed(&many), Err(GrammarError::TooLarge { steps: Grammar::STEPS_MAX + 1 }.into()));
    }
}
