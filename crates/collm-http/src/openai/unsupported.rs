//! Fields that would change the answer elsewhere and that nobody here honours. Ignoring them would be a silent lie.

use serde_json::{Value, json};

use crate::{error::ApiError, fields::Fields};

/// Of OpenAI's API, and what other servers added to it. Values that ask for nothing are fine.
const FIELDS: &[&str] = &[
    "audio",
    "function_call",
    "functions",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "json_schema",
    "min_tokens",
    "prediction",
    "prompt_logprobs",
    "reasoning_effort",
    "store",
    "structured_outputs",
    "suffix",
    "tools",
    "verbosity",
    "web_search_options",
];

const FIELDS_OF_MESSAGES: &[&str] = &["audio", "function_call", "name", "refusal", "tool_call_id", "tool_calls"];

/// Refuses the first such field of a request.
pub(super) fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    for name in FIELDS {
        fields.refuse_unless(name, asks_for_nothing)?;
    }
    fields.refuse_unless("repetition_penalty", |value| value.is_null() || value.as_f64() == Some(1.0))?;
    fields.refuse_unless("modalities", |value| value.is_null() || *value == json!(["text"]))?;
    fields.refuse_unless("tool_choice", |value| value.is_null() || value == "none" || value == "auto")
}

/// Refuses the first such field of one message.
pub(super) fn refuse_in_message(fields: &mut Fields) -> Result<(), ApiError> {
    for name in FIELDS_OF_MESSAGES {
        fields.refuse_unless(name, asks_for_nothing)?;
    }
    Ok(())
}

fn asks_for_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(on) => !on,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
    }
}
