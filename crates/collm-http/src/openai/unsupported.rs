//! Fields that would change the answer elsewhere and that nobody here honours. Ignoring them would be a silent lie.

use serde_json::{Value, json};

use crate::{error::ApiError, fields::Fields};

/// Of OpenAI's API, and what vLLM and llama.cpp added to it. Values that ask for nothing are fine.
const FIELDS: &[&str] = &[
    "allowed_token_ids",
    "audio",
    "bad_words",
    "chat_template",
    "chat_template_kwargs",
    "continue_final_message",
    "documents",
    "dry_multiplier",
    "dynatemp_range",
    "function_call",
    "functions",
    "grammar",
    "guided_choice",
    "guided_grammar",
    "guided_json",
    "guided_regex",
    "ignore_eos",
    "include_stop_str_in_output",
    "json_schema",
    "logits_processors",
    "min_tokens",
    "mirostat",
    "prediction",
    "prompt_logprobs",
    "reasoning_effort",
    "stop_token_ids",
    "store",
    "structured_outputs",
    "suffix",
    "tools",
    "truncate_prompt_tokens",
    "use_beam_search",
    "verbosity",
    "web_search_options",
    "xtc_probability",
];

/// Those for which something else than nothing changes nothing.
const NEUTRAL: &[(&str, f64)] =
    &[("length_penalty", 1.0), ("repetition_penalty", 1.0), ("top_n_sigma", -1.0), ("typical_p", 1.0)];

/// Those that are on unless a request says otherwise.
const ALWAYS_ON: &[&str] = &["add_generation_prompt", "skip_special_tokens"];

const FIELDS_OF_MESSAGES: &[&str] = &["audio", "function_call", "name", "refusal", "tool_call_id", "tool_calls"];

/// Refuses the first such field of a request.
pub(super) fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    for name in FIELDS {
        fields.refuse_unless(name, asks_for_nothing)?;
    }
    for (name, neutral) in NEUTRAL {
        fields.refuse_unless(name, |value| value.is_null() || value.as_f64() == Some(*neutral))?;
    }
    for name in ALWAYS_ON {
        fields.refuse_unless(name, |value| *value != Value::Bool(false))?;
    }
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
