//! From JSON schemas to grammars. A keyword that is not known here is refused by name: ignoring it would be a silent lie.

use std::collections::{BTreeMap, BTreeSet};

use collm_core::grammar::{
    Expression::{self, Choice, Rule, Sequence},
    Grammar, TooLarge,
};
use serde_json::{Map, Value};

use super::values::{
    ANY_ARRAY, ANY_OBJECT, ANYTHING, INTEGER, NUMBER, SPACE, STRING, after_comma, boolean, enclosed, list, member,
    shared_rules, text,
};

/// Keywords that say nothing about which values are valid, or that are looked at where something refers to them.
const ANNOTATIONS: &[&str] = &[
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "examples",
    "readOnly",
    "title",
    "writeOnly",
];

const TYPES: &[&str] = &["object", "array", "string", "number", "integer", "boolean", "null"];

/// Why a schema cannot be held to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SchemaError {
    #[error("the schema's {0:?} is not supported here; leave it out, or check it yourself")]
    Keyword(String),
    #[error("the schema's {keyword:?} is not {expected}")]
    Malformed { keyword: &'static str, expected: &'static str },
    #[error("the schema refers to {0:?}; only #, #/$defs/NAME and #/definitions/NAME are supported, where they exist")]
    Reference(String),
    #[error("nothing is valid by {0:?}")]
    Nothing(&'static str),
    #[error("the schema is too large: {0}")]
    TooLarge(#[from] TooLarge),
}

/// The grammar of all values of a schema.
pub(super) fn grammar(schema: &Value) -> Result<Grammar, SchemaError> {
    let mut translator = Translator { root: schema, rules: shared_rules(), named: BTreeMap::new(), depth: 0, built: 0 };
    let root = translator.rule("#")?;
    translator.rules[0] = Sequence(vec![root, SPACE]);
    Ok(Expression::compile(&translator.rules)?)
}

struct Translator<'a> {
    root: &'a Value,
    rules: Vec<Expression>,
    /// The rules of what was referred to.
    named: BTreeMap<String, usize>,
    /// Schemas within schemas, references included.
    depth: usize,
    /// Expressions that were made, counted again in each schema around them.
    built: usize,
}

/// Deeper schemas are refused: more than anybody writes, and less than a stack holds.
const DEPTH_MAX: usize = 64;

/// More than any grammar of permitted size takes to make.
const BUILT_MAX: usize = 16 * Grammar::STEPS_MAX;

impl<'a> Translator<'a> {
    /// The rule of what a reference names. It may refer to itself.
    fn rule(&mut self, reference: &str) -> Result<Expression, SchemaError> {
        if let Some(&index) = self.named.get(reference) {
            return Ok(Rule(index));
        }
        let schema = self.find(reference)?;
        let index = self.rules.len();
        self.rules.push(Choice(vec![]));
        self.named.insert(reference.to_owned(), index);
        self.rules[index] = self.schema(schema)?;
        Ok(Rule(index))
    }

    fn find(&self, reference: &str) -> Result<&'a Value, SchemaError> {
        let path = reference.strip_prefix('#');
        let known =
            path.filter(|path| path.is_empty() || path.starts_with("/$defs/") || path.starts_with("/definitions/"));
        known.and_then(|path| self.root.pointer(path)).ok_or_else(|| SchemaError::Reference(reference.to_owned()))
    }

    /// What a schema stands for. It is refused before its size, which may be exponential in that of its text, takes memory.
    fn schema(&mut self, schema: &'a Value) -> Result<Expression, SchemaError> {
        self.depth += 1;
        let expression = if self.depth <= DEPTH_MAX { self.keywords(schema)? } else { return Err(TooLarge.into()) };
        self.depth -= 1;
        self.built += expression.size();
        if self.built <= BUILT_MAX { Ok(expression) } else { Err(TooLarge.into()) }
    }

    fn keywords(&mut self, schema: &'a Value) -> Result<Expression, SchemaError> {
        let keywords = match schema {
            Value::Bool(true) => return Ok(ANYTHING),
            Value::Object(keywords) => keywords,
            _ => return Err(malformed("schema", "an object or true")),
        };
        let has = |keyword: &str| keywords.contains_key(keyword);
        if has("$ref") {
            only(keywords, &["$ref"])?;
            return self.rule(keywords["$ref"].as_str().ok_or_else(|| malformed("$ref", "a string"))?);
        }
        if has("anyOf") {
            only(keywords, &["anyOf"])?;
            let options = keywords["anyOf"].as_array().ok_or_else(|| malformed("anyOf", "a list"))?;
            return some_of("anyOf", options.iter().map(|option| self.schema(option)).collect::<Result<_, _>>()?);
        }
        let types = types(keywords)?;
        if has("const") || has("enum") {
            only(keywords, &["const", "enum", "type"])?;
            return literals(keywords, types.as_ref());
        }
        match types {
            None => {
                only(keywords, &[])?;
                Ok(ANYTHING)
            }
            Some(types) => self.of_types(keywords, &types),
        }
    }

    fn of_types(
        &mut self,
        keywords: &'a Map<String, Value>,
        types: &BTreeSet<&str>,
    ) -> Result<Expression, SchemaError> {
        let mut known = vec!["type"];
        if types.contains("object") {
            known.extend(["properties", "required", "additionalProperties"]);
        }
        if types.contains("array") {
            known.extend(["items", "minItems", "maxItems"]);
        }
        only(keywords, &known)?;
        let mut options = Vec::new();
        for name in types {
            options.push(match *name {
                "object" => self.object(keywords)?,
                "array" => self.array(keywords)?,
                "string" => STRING,
                "number" => NUMBER,
                "integer" => INTEGER,
                "boolean" => boolean(),
                _ => text("null"),
            });
        }
        some_of("type", options)
    }

    fn array(&mut self, keywords: &'a Map<String, Value>) -> Result<Expression, SchemaError> {
        let (min, max) = (count(keywords, "minItems")?.unwrap_or(0), count(keywords, "maxItems")?);
        if max.is_some_and(|max| max < min) {
            return Err(SchemaError::Nothing("maxItems"));
        }
        match keywords.get("items") {
            None if min == 0 && max.is_none() => Ok(ANY_ARRAY),
            None => Ok(enclosed("[", list(ANYTHING, min, max), "]")),
            Some(items) => Ok(enclosed("[", list(self.schema(items)?, min, max), "]")),
        }
    }

    /// Members in the schema's order, then, if they are asked for or there are no others, those that it does not name.
    fn object(&mut self, keywords: &'a Map<String, Value>) -> Result<Expression, SchemaError> {
        let properties: Vec<(&String, &Value)> = match keywords.get("properties") {
            None => Vec::new(),
            Some(properties) => {
                properties.as_object().ok_or_else(|| malformed("properties", "an object"))?.iter().collect()
            }
        };
        let required = required(keywords)?;
        if let Some(unknown) = required.iter().find(|name| properties.iter().all(|(known, _)| known != *name)) {
            return Err(SchemaError::Reference((*unknown).to_owned()));
        }
        let others = match keywords.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            None if !properties.is_empty() => None,
            None | Some(Value::Bool(true)) => Some(ANYTHING),
            Some(schema) => Some(self.schema(schema)?),
        };
        if properties.is_empty() && others == Some(ANYTHING) {
            return Ok(ANY_OBJECT);
        }
        let mut members = Vec::new();
        for (name, schema) in properties {
            let written = member(text(&Value::from(name.as_str()).to_string()), self.schema(schema)?);
            self.rules.push(written);
            members.push(Member { rule: Rule(self.rules.len() - 1), required: required.contains(name.as_str()) });
        }
        let others = others.map(|value| member(STRING, value));
        // Each member that may be the first is written with all that may follow it.
        let firsts = 1 + members.iter().take_while(|member| !member.required).count();
        if firsts * members.len() > Grammar::STEPS_MAX {
            return Err(TooLarge.into());
        }
        Ok(enclosed("{", first_member(&members, others.as_ref()), "}"))
    }
}

/// A member that the schema names.
struct Member {
    rule: Expression,
    required: bool,
}

/// Members where none was written yet, so that no comma comes before.
fn first_member(members: &[Member], others: Option<&Expression>) -> Expression {
    let Some((member, rest)) = members.split_first() else {
        return others.map_or(Sequence(vec![]), |other| list(other.clone(), 0, None));
    };
    let with = Sequence(vec![member.rule.clone(), more_members(rest, others)]);
    if member.required { with } else { Choice(vec![with, first_member(rest, others)]) }
}

/// Members where some were written.
fn more_members(members: &[Member], others: Option<&Expression>) -> Expression {
    let named = members.iter().map(|member| {
        let more = after_comma(member.rule.clone());
        if member.required { more } else { more.optional() }
    });
    let others = others.map(|other| after_comma(other.clone()).any_number());
    Sequence(named.chain(others).collect())
}

fn malformed(keyword: &'static str, expected: &'static str) -> SchemaError {
    SchemaError::Malformed { keyword, expected }
}

/// Refuses keywords that are neither known nor annotations.
fn only(keywords: &Map<String, Value>, known: &[&str]) -> Result<(), SchemaError> {
    let is_known = |keyword: &str| known.contains(&keyword) || ANNOTATIONS.contains(&keyword);
    match keywords.keys().find(|keyword| !is_known(keyword)) {
        Some(unknown) => Err(SchemaError::Keyword(unknown.clone())),
        None => Ok(()),
    }
}

fn some_of(keyword: &'static str, mut options: Vec<Expression>) -> Result<Expression, SchemaError> {
    match options.len() {
        0 => Err(SchemaError::Nothing(keyword)),
        1 => Ok(options.remove(0)),
        _ => Ok(Choice(options)),
    }
}

/// The keyword `type`: one name or several.
fn types(keywords: &Map<String, Value>) -> Result<Option<BTreeSet<&str>>, SchemaError> {
    let names = match keywords.get("type") {
        None => return Ok(None),
        Some(Value::Array(names)) => names.iter().collect(),
        Some(name) => vec![name],
    };
    let known = |name: &&Value| TYPES.iter().find(|known| **name == **known).copied();
    let names: Option<BTreeSet<&str>> = names.iter().map(known).collect();
    names.map(Some).ok_or_else(|| malformed("type", "the name of a JSON type, or a list of them"))
}

/// The values that `const` or `enum` name, as far as they are of the types.
fn literals(keywords: &Map<String, Value>, types: Option<&BTreeSet<&str>>) -> Result<Expression, SchemaError> {
    let constant = keywords.get("const");
    let all: Vec<&Value> = match keywords.get("enum") {
        None => constant.into_iter().collect(),
        Some(values) => values.as_array().ok_or_else(|| malformed("enum", "a list"))?.iter().collect(),
    };
    let fits = |value: &&Value| {
        constant.is_none_or(|constant| constant == *value) && types.is_none_or(|types| is_of(types, value))
    };
    some_of("enum", all.into_iter().filter(fits).map(|value| text(&value.to_string())).collect())
}

fn is_of(types: &BTreeSet<&str>, value: &Value) -> bool {
    match value {
        Value::Null => types.contains("null"),
        Value::Bool(_) => types.contains("boolean"),
        Value::String(_) => types.contains("string"),
        Value::Array(_) => types.contains("array"),
        Value::Object(_) => types.contains("object"),
        Value::Number(number) => types.contains("number") || (types.contains("integer") && !number.is_f64()),
    }
}

fn required(keywords: &Map<String, Value>) -> Result<BTreeSet<&str>, SchemaError> {
    let Some(names) = keywords.get("required") else { return Ok(BTreeSet::new()) };
    let names: Option<BTreeSet<&str>> = names.as_array().and_then(|names| names.iter().map(Value::as_str).collect());
    names.ok_or_else(|| malformed("required", "a list of strings"))
}

fn count(keywords: &Map<String, Value>, keyword: &'static str) -> Result<Option<u32>, SchemaError> {
    let Some(value) = keywords.get(keyword) else { return Ok(None) };
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    count.map(Some).ok_or_else(|| malformed(keyword, "a small number"))
}

#[cfg(test)]
mod tests {
    use collm_core::grammar::Follower;
    use serde_json::json;

    use super::*;

    /// Whole texts that have the form of a schema, and texts that do not even begin so.
    fn check(schema: &Value, valid: &[&str], invalid: &[&str]) {
        let grammar = grammar(schema).unwrap_or_else(|error| panic!("{schema}: {error}"));
        let followed = |text: &str| {
            let mut follower = Follower::new(grammar.clone());
            follower.accept(text.as_bytes());
            follower
        };
        for text in valid {
            assert!(followed(text).may_end(), "{text} is of {schema}");
        }
        for text in invalid {
            assert!(followed(text).is_lost(), "{text} is not of {schema}");
        }
    }

    fn refused(schema: &Value, error: SchemaError) {
        assert_eq!(grammar(schema).err(), Some(error), "{schema}");
    }

    #[test]
    fn anything_is_any_json() {
        let valid = [
            "{}",
            "[]",
            "[ ]",
            "{\n  \"a\": [1, 2.5e-3, -0],\n  \"b\": {\"c\": null}\n}",
            "\"\\u00e9\\n é 😀\"",
            "true",
            "-1",
            "0.5",
        ];
        for schema in [json!(true), json!({})] {
            check(&schema, &valid, &["{a", "{\"a\" 1", "[1,]", "01", "\"\n", "tru ", "1.e", "nul1", "{},", "   1"]);
        }
    }

    #[test]
    fn strings_are_well_formed() {
        let schema = grammar(&json!({"type": "string"})).expect("supported");
        let taken = |bytes: &[u8]| Follower::new(schema.clone()).allows(bytes);
        assert!(taken(b"\"\xf0\x9f\x98"), "a character may be cut at a token's end");
        for bytes in [&b"\"\xc0"[..], b"\"\xed\xa0", b"\"\xff", b"\"\x80", b"\"\x00", b"\"\\x"] {
            assert!(!taken(bytes), "{bytes:x?}");
        }
    }

    #[test]
    fn objects_have_their_members_in_order() {
        let properties = json!({"a": {"type": "integer"}, "b": {"type": "boolean"}, "c": {"type": "null"}});
        let some = json!({"type": "object", "properties": properties, "required": ["b"]});
        let valid = ["{\"b\":true}", "{\"a\": 1, \"b\": false}", "{\"b\": true, \"c\": null}"];
        check(
            &some,
            &valid,
            &["{}", "{\"a\": 1}", "{\"b\": 1", "{\"c\"", "{\"b\": true, \"d\"", "{\"a\": 1.", "[", "{ , "],
        );
        let open = json!({"type": "object", "properties": {"a": {}}, "additionalProperties": {"type": "string"}});
        check(
            &open,
            &["{}", "{\"a\": 1}", "{\"a\": 1, \"b\": \"c\", \"d\": \"\"}", "{\"b\": \"c\"}"],
            &["{\"b\": 1", "{\"a\": 1,}"],
        );
        check(&json!({"type": "object", "additionalProperties": false}), &["{}"], &["{\"", "[]"]);
    }

    #[test]
    fn arrays_have_their_lengths() {
        let of =
            |min: Value, max: Value| json!({"type": "array", "items": {"enum": [1]}, "minItems": min, "maxItems": max});
        check(&of(json!(0), json!(2)), &["[]", "[1]", "[1, 1]"], &["[1, 1, ", "[2"]);
        check(&of(json!(2), json!(2)), &["[1,1]"], &["[]", "[1]", "[1,1,"]);
        check(&json!({"type": "array", "items": {"enum": [1]}, "maxItems": 0}), &["[]"], &["[1"]);
        check(&json!({"type": "array", "minItems": 1}), &["[1]", "[{}, []]"], &["[]"]);
    }

    #[test]
    fn choices_and_references() {
        check(
            &json!({"enum": ["a\"b", 1, null], "type": ["string", "null"]}),
            &["\"a\\\"b\"", "null"],
            &["1", "\"a\""],
        );
        check(&json!({"const": {"a": [1]}}), &["{\"a\":[1]}"], &["{\"b"]);
        check(&json!({"anyOf": [{"type": "null"}, {"type": "integer"}]}), &["null", "17"], &["true", "\""]);
        check(&json!({"type": ["boolean", "integer"]}), &["true", "-3"], &["null", "[", "1."]);
        let tree = json!({
            "$ref": "#/$defs/tree",
            "$defs": {"tree": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
        });
        check(&tree, &["[]", "[[], [[]]]"], &["[1", "[[],]"]);
        check(&json!({"type": "array", "items": {"$ref": "#"}}), &["[[[]]]"], &["[{"]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let keyword = |name: &str| SchemaError::Keyword(name.into());
        refused(&json!({"type": "string", "pattern": "a"}), keyword("pattern"));
        refused(&json!({"type": "integer", "minimum": 1}), keyword("minimum"));
        refused(&json!({"type": "string", "items": {}}), keyword("items"));
        refused(&json!({"oneOf": []}), keyword("oneOf"));
        refused(&json!({"anyOf": [{}], "type": "null"}), keyword("type"));
        refused(&json!({"properties": {}}), keyword("properties"));
        refused(&json!({"anyOf": []}), SchemaError::Nothing("anyOf"));
        refused(&json!({"enum": [1], "type": "string"}), SchemaError::Nothing("enum"));
        refused(&json!({"type": "array", "minItems": 3, "maxItems": 2}), SchemaError::Nothing("maxItems"));
        refused(&json!({"type": "text"}), malformed("type", "the name of a JSON type, or a list of them"));
        refused(&json!([]), malformed("schema", "an object or true"));
        refused(&json!({"$ref": "https://example.com/a"}), SchemaError::Reference("https://example.com/a".into()));
        refused(&json!({"$ref": "#/$defs/a"}), SchemaError::Reference("#/$defs/a".into()));
        refused(&json!({"type": "object", "required": ["a"]}), SchemaError::Reference("a".into()));
        refused(&json!({"type": "array", "minItems": 100_000}), SchemaError::TooLarge(TooLarge));
    }

    /// Small texts of large grammars are refused before they take memory, and deep ones before they take the stack.
    #[test]
    fn what_would_grow_without_bound_is_refused() {
        let nested =
            |depth| (0..depth).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
        check(&nested(4), &["[[[[null]]]]", "[]"], &["[null"]);
        refused(&nested(40), SchemaError::TooLarge(TooLarge));
        let maps = (0..60).fold(json!({}), |inner, _| json!({"type": "object", "additionalProperties": inner}));
        refused(&maps, SchemaError::TooLarge(TooLarge));
        let wide: Map<String, Value> = (0..10_000).map(|index| (format!("a{index}"), json!({}))).collect();
        refused(&json!({"type": "object", "properties": wide}), SchemaError::TooLarge(TooLarge));
        let link = |index: usize| (format!("a{index}"), json!({"$ref": format!("#/$defs/a{}", index + 1)}));
        let chain: Map<String, Value> = (0..100_000).map(link).collect();
        refused(&json!({"$ref": "#/$defs/a0", "$defs": chain}), SchemaError::TooLarge(TooLarge));
    }
}
