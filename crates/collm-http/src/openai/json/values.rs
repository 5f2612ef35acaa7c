//! JSON as such: the rules that all schemas share.

use collm_core::grammar::Expression::{self, Choice, Range, Repeat, Rule, Sequence};

/// Digits before and after the point, at most.
const DIGITS_MAX: u32 = 16;

/// Blanks after a line's end, at most.
const INDENT_MAX: u32 = 20;

/// Indexes of the shared rules. The rule before them is the whole text.
pub(super) const SPACE: Expression = Rule(1);
const CHARACTER: Expression = Rule(2);
pub(super) const STRING: Expression = Rule(3);
pub(super) const INTEGER: Expression = Rule(4);
pub(super) const NUMBER: Expression = Rule(5);
pub(super) const ANYTHING: Expression = Rule(6);
pub(super) const ANY_OBJECT: Expression = Rule(7);
pub(super) const ANY_ARRAY: Expression = Rule(8);

/// These rules, after room for the first.
pub(super) fn shared_rules() -> Vec<Expression> {
    vec![
        Choice(vec![]),
        space(),
        character(),
        Sequence(vec![text("\""), CHARACTER.any_number(), text("\"")]),
        integer(),
        number(),
        Choice(vec![ANY_OBJECT, ANY_ARRAY, STRING, NUMBER, boolean(), text("null")]),
        enclosed("{", list(member(STRING, ANYTHING), 0, None), "}"),
        enclosed("[", list(ANYTHING, 0, None), "]"),
    ]
}

pub(super) fn text(text: &str) -> Expression {
    Expression::text(text)
}

pub(super) fn boolean() -> Expression {
    Choice(vec![text("true"), text("false")])
}

/// Something between brackets.
pub(super) fn enclosed(open: &str, content: Expression, close: &str) -> Expression {
    Sequence(vec![text(open), SPACE, content, SPACE, text(close)])
}

/// A name and a value.
pub(super) fn member(name: Expression, value: Expression) -> Expression {
    Sequence(vec![name, text(":"), SPACE, value])
}

/// What stands before every entry but the first.
pub(super) fn after_comma(entry: Expression) -> Expression {
    Sequence(vec![text(","), SPACE, entry])
}

/// Entries with commas between them.
pub(super) fn list(entry: Expression, min: u32, max: Option<u32>) -> Expression {
    if max == Some(0) {
        return Sequence(vec![]);
    }
    let others = Repeat(Box::new(after_comma(entry.clone())), min.saturating_sub(1), max.map(|max| max - 1));
    let some = Sequence(vec![entry, others]);
    if min == 0 { some.optional() } else { some }
}

fn space() -> Expression {
    let lines = Repeat(Box::new(text("\n")), 1, Some(2));
    let indent = Repeat(Box::new(Choice(vec![text(" "), text("\t")])), 0, Some(INDENT_MAX));
    Choice(vec![Sequence(vec![]), text(" "), Sequence(vec![lines, indent])])
}

/// One character of a string: itself, in well-formed UTF-8, or escaped.
fn character() -> Expression {
    let follow = || Range(0x80, 0xbf);
    let of = |parts: Vec<Expression>| Sequence(parts);
    let escape = Choice(vec![
        Choice("\"\\/bfnrt".chars().map(|c| text(&c.to_string())).collect()),
        of(vec![text("u"), Repeat(Box::new(hexadecimal()), 4, Some(4))]),
    ]);
    Choice(vec![
        Range(0x20, 0x21),
        Range(0x23, 0x5b),
        Range(0x5d, 0x7f),
        of(vec![text("\\"), escape]),
        of(vec![Range(0xc2, 0xdf), follow()]),
        of(vec![Range(0xe0, 0xe0), Range(0xa0, 0xbf), follow()]),
        of(vec![Range(0xe1, 0xec), follow(), follow()]),
        of(vec![Range(0xed, 0xed), Range(0x80, 0x9f), follow()]),
        of(vec![Range(0xee, 0xef), follow(), follow()]),
        of(vec![Range(0xf0, 0xf0), Range(0x90, 0xbf), follow(), follow()]),
        of(vec![Range(0xf1, 0xf3), follow(), follow(), follow()]),
        of(vec![Range(0xf4, 0xf4), Range(0x80, 0x8f), follow(), follow()]),
    ])
}

fn hexadecimal() -> Expression {
    Choice(vec![Range(b'0', b'9'), Range(b'a', b'f'), Range(b'A', b'F')])
}

fn digits(min: u32, max: u32) -> Expression {
    Repeat(Box::new(Range(b'0', b'9')), min, Some(max))
}

fn integer() -> Expression {
    let other = Sequence(vec![Range(b'1', b'9'), digits(0, DIGITS_MAX - 1)]);
    Sequence(vec![text("-").optional(), Choice(vec![text("0"), other])])
}

fn number() -> Expression {
    let fraction = Sequence(vec![text("."), digits(1, DIGITS_MAX)]);
    let mark = Choice(vec![text("e"), text("E")]);
    let sign = Choice(vec![text("+"), text("-")]).optional();
    let exponent = Sequence(vec![mark, sign, digits(1, 3)]);
    Sequence(vec![INTEGER, fraction.optional(), exponent.optional()])
}
