//! Running a grammar over a text: every way on that the text so far leaves open, at once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Grammar, Step};
use crate::ids::TokenId;

/// What may come next, by token.
pub trait Constraint {
    /// Whether the text may go on with this token.
    fn allows(&mut self, token: TokenId) -> bool;
}

/// Calls within calls; what is deeper is not followed.
const DEPTH_MAX: u16 = 128;

/// Ways on at once, and returns to remember. More of them are not followed: a grammar that is so ambiguous was not made to be used.
const WAYS_MAX: usize = 1024;
const FRAMES_MAX: usize = 1 << 16;

/// Places that are remembered, and ways in all of them together.
const PLACES_MAX: usize = 4096;
const WAYS_KEPT_MAX: usize = 1 << 18;

/// Where a text leads in a grammar.
///
/// What a byte leads to is worked out once for each place and then looked up: of a vocabulary that is tried token by token, most
/// bytes lead from few places to few others.
#[derive(Debug, Clone)]
pub struct Follower {
    grammar: Grammar,
    frames: Frames,
    places: Vec<Place>,
    numbers: BTreeMap<(Vec<Way>, bool), u32>,
    ways_kept: usize,
    /// Where the text so far leads.
    here: u32,
}

/// Every way on that a text leaves open, at once.
#[derive(Debug, Clone)]
struct Place {
    /// All of them at a [`Step::Byte`].
    ways: Vec<Way>,
    may_end: bool,
    /// The place that a byte leads to, or [`Place::UNKNOWN`].
    next: Box<[u32; 256]>,
}

/// A step, and what to return to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Way {
    step: u32,
    frame: u32,
}

impl Place {
    const UNKNOWN: u32 = u32::MAX;

    fn is_lost(&self) -> bool {
        self.ways.is_empty() && !self.may_end
    }
}

impl Follower {
    /// At the beginning of a text.
    pub fn new(grammar: Grammar) -> Self {
        let mut follower = Self {
            grammar,
            frames: Frames::default(),
            places: Vec::new(),
            numbers: BTreeMap::new(),
            ways_kept: 0,
            here: 0,
        };
        let (ways, may_end) = follower.expand(vec![Way { step: 0, frame: Frames::OUTERMOST }]);
        follower.here = follower.place(ways, may_end);
        follower
    }

    /// Whether the text may end here.
    pub fn may_end(&self) -> bool {
        self.at(self.here).may_end
    }

    /// Whether there is no way on and no end: the text does not have the form.
    pub fn is_lost(&self) -> bool {
        self.at(self.here).is_lost()
    }

    /// Whether the text may go on with these bytes, of which there is at least one.
    pub fn allows(&mut self, bytes: &[u8]) -> bool {
        let end = self.walk(bytes);
        !bytes.is_empty() && !self.at(end).is_lost()
    }

    /// Goes on with these bytes.
    pub fn accept(&mut self, bytes: &[u8]) {
        self.here = self.walk(bytes);
    }

    /// Where these bytes lead from here, or to the first place without a way on.
    fn walk(&mut self, bytes: &[u8]) -> u32 {
        self.forget_if_full();
        let mut place = self.here;
        for &byte in bytes {
            place = self.after(place, byte);
            // What comes after it is lost, too.
            if self.at(place).is_lost() {
                break;
            }
        }
        place
    }

    fn at(&self, place: u32) -> &Place {
        &self.places[place as usize]
    }

    fn after(&mut self, from: u32, byte: u8) -> u32 {
        let known = self.at(from).next[usize::from(byte)];
        if known != Place::UNKNOWN {
            return known;
        }
        let taken = self.at(from).ways.iter().filter(|way| self.takes(**way, byte));
        let next = taken.map(|way| Way { step: way.step + 1, ..*way }).collect();
        let (ways, may_end) = self.expand(next);
        let place = self.place(ways, may_end);
        self.places[from as usize].next[usize::from(byte)] = place;
        place
    }

    fn takes(&self, way: Way, byte: u8) -> bool {
        matches!(self.grammar.steps()[way.step as usize], Step::Byte { low, high } if (low..=high).contains(&byte))
    }

    /// The number of a place: always the same for the same ways.
    fn place(&mut self, ways: Vec<Way>, may_end: bool) -> u32 {
        let key = (ways, may_end);
        if let Some(&number) = self.numbers.get(&key) {
            return number;
        }
        let number = self.places.len() as u32;
        self.ways_kept += key.0.len();
        self.places.push(Place { ways: key.0.clone(), may_end, next: Box::new([Place::UNKNOWN; 256]) });
        self.numbers.insert(key, number);
        number
    }

    /// Keeps the present place alone if too many were met. They are worked out anew where they are met again.
    fn forget_if_full(&mut self) {
        if self.places.len() < PLACES_MAX && self.ways_kept < WAYS_KEPT_MAX {
            return;
        }
        let here = self.places.swap_remove(self.here as usize);
        self.places.clear();
        self.numbers.clear();
        self.ways_kept = 0;
        self.here = self.place(here.ways, here.may_end);
    }

    /// Follows every way to the next byte that it wants. Also whether one of them is at the end.
    fn expand(&mut self, mut open: Vec<Way>) -> (Vec<Way>, bool) {
        let (mut ways, mut may_end) = (Vec::new(), false);
        let mut seen = BTreeSet::new();
        while let Some(way) = open.pop() {
            if seen.len() >= WAYS_MAX || !seen.insert(way) {
                continue;
            }
            let Way { step, frame } = way;
            match self.grammar.steps()[step as usize] {
                Step::Byte { .. } => ways.push(way),
                Step::Either(one, other) => open.extend([one, other].map(|step| Way { step, frame })),
                Step::Jump(target) => open.push(Way { step: target, frame }),
                Step::Call(target) => {
                    open.extend(self.frames.enter(step + 1, frame).map(|frame| Way { step: target, frame }));
                }
                Step::Return if frame == Frames::OUTERMOST => may_end = true,
                Step::Return => open.push(self.frames.leave(frame)),
            }
        }
        ways.sort_unstable();
        (ways, may_end)
    }
}

/// Returns to come, as lists that share their tails: the same list always has the same number.
#[derive(Debug, Clone, Default)]
struct Frames {
    /// Frame `n` is entry `n - 1`, with its depth.
    frames: Vec<(Way, u16)>,
    numbers: BTreeMap<Way, u32>,
}

impl Frames {
    /// Nothing was called.
    const OUTERMOST: u32 = 0;

    /// The frame that returns to `step` and then to `frame`; none beyond the limits.
    fn enter(&mut self, step: u32, frame: u32) -> Option<u32> {
        let way = Way { step, frame };
        if let Some(number) = self.numbers.get(&way) {
            return Some(*number);
        }
        let depth = self.depth(frame) + 1;
        if depth > DEPTH_MAX || self.frames.len() >= FRAMES_MAX {
            return None;
        }
        self.frames.push((way, depth));
        let number = self.frames.len() as u32;
        self.numbers.insert(way, number);
        Some(number)
    }

    fn leave(&self, frame: u32) -> Way {
        self.frames[frame as usize - 1].0
    }

    fn depth(&self, frame: u32) -> u16 {
        if frame == Self::OUTERMOST { 0 } else { self.frames[frame as usize - 1].1 }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Expression, *};

    fn check(rules: &[Expression], whole: &[&str], parts: &[&str], others: &[&str]) {
        let grammar = Expression::compile(rules).expect("small");
        let end = |text: &str| {
            let mut follower = Follower::new(grammar.clone());
            let allowed = text.is_empty() || follower.allows(text.as_bytes());
            follower.accept(text.as_bytes());
            assert_eq!(allowed, !follower.is_lost(), "{text:?}: allowed is what can be accepted");
            (allowed, follower.may_end())
        };
        for text in whole {
            assert_eq!(end(text), (true, true), "{text:?} is whole");
        }
        for text in parts {
            assert_eq!(end(text), (true, false), "{text:?} goes on");
        }
        for text in others {
            assert_eq!(end(text), (false, false), "{text:?} is something else");
        }
    }

    #[test]
    fn texts_choices_and_repetitions() {
        use Expression::{Choice, Range, Repeat, Sequence};
        let text = Expression::text;
        check(&[text("true")], &["true"], &["", "t", "tru"], &["f", "truex"]);
        check(&[Choice(vec![text("a"), text("ab"), text("c")])], &["a", "ab", "c"], &[""], &["b", "abc"]);
        check(&[Choice(vec![])], &[], &[], &["a"]);
        check(&[Range(b'0', b'9').any_number()], &["", "0", "0123456789"], &[], &["a", "1a"]);
        let some = Repeat(Box::new(text("ab")), 1, Some(3));
        check(&[some], &["ab", "abab", "ababab"], &["", "a", "aba"], &["abababa", "b"]);
        check(&[Sequence(vec![text("a").optional(), text("b")])], &["b", "ab"], &["", "a"], &["aa", "bb"]);
    }

    #[test]
    fn rules_call_each_other_as_deep_as_is_followed() {
        let nested = Expression::Choice(vec![
            Expression::text("x"),
            Expression::Sequence(vec![Expression::text("["), Expression::Rule(0), Expression::text("]")]),
        ]);
        let deep = |depth: usize| format!("{}x{}", "[".repeat(depth), "]".repeat(depth));
        let deepest = usize::from(DEPTH_MAX);
        check(std::slice::from_ref(&nested), &["x", "[[x]]", &deep(deepest)], &["[", "[[x]"], &["]", "[x]]"]);
        let mut follower = Follower::new(Expression::compile(&[nested]).expect("small"));
        assert!(!follower.allows(deep(deepest + 1).as_bytes()));
    }

    #[test]
    fn rules_that_only_call_themselves_end() {
        let left = Expression::Choice(vec![
            Expression::Sequence(vec![Expression::Rule(0), Expression::text("a")]),
            Expression::text("a"),
        ]);
        check(&[left], &["a", "aaaa"], &[""], &["b"]);
        check(&[Expression::Rule(0)], &[], &[], &["a"]);
        check(&[Expression::Rule(7)], &[], &[], &["a"]);
    }

    #[test]
    fn forgetting_places_changes_nothing() {
        use Expression::{Choice, Range, Rule, Sequence};
        // Brackets and letters, as deep as one likes: every depth is another place.
        let nested = Choice(vec![
            Range(b'a', b'z'),
            Sequence(vec![Expression::text("("), Rule(0).any_number(), Expression::text(")")]),
        ]);
        let grammar = Expression::compile(&[nested]).expect("small");
        let (mut kept, mut forgetful) = (Follower::new(grammar.clone()), Follower::new(grammar));
        for bytes in ["(", "(a", "b(", "c", ")", ")x", "(", "))", ")"] {
            forgetful.ways_kept = WAYS_KEPT_MAX;
            for tried in ["(", ")", "a)", "))", "()", "1"] {
                assert_eq!(forgetful.allows(tried.as_bytes()), kept.allows(tried.as_bytes()), "{bytes:?} {tried:?}");
                forgetful.ways_kept = WAYS_KEPT_MAX;
            }
            kept.accept(bytes.as_bytes());
            forgetful.accept(bytes.as_bytes());
            assert_eq!((forgetful.may_end(), forgetful.is_lost()), (kept.may_end(), kept.is_lost()), "{bytes:?}");
        }
        assert!(forgetful.places.len() < kept.places.len());
    }

    #[test]
    fn what_is_too_large_is_not_compiled() {
        let many = Expression::Repeat(Box::new(Expression::text("abc")), 0, Some(1_000_000));
        assert!(Expression::compile(std::slice::from_ref(&many)).is_err());
        assert!(Expression::compile(&[Expression::Repeat(Box::new(many), 9, None)]).is_err());
        let empty = Expression::Repeat(Box::new(Expression::Sequence(vec![])), u32::MAX, None);
        assert!(Expression::compile(&[empty]).is_err());
    }
}
