//! The field `response_format`: answers that are JSON, of any kind or of a schema.
//!
//! A form holds every answer that is not cut short: what it allows is valid JSON of the schema. It need not allow all of that: members
//! come in the schema's order, numbers have bounded digits, and blanks between things are few, so that a model cannot write
//! nothing but blanks for ever.

mod schema;
mod values;

use collm_core::grammar::Grammar;
use serde_json::Value;

use crate::{error::ApiError, fields::Fields};

/// What the field asks for; `None` for plain text.
pub(super) fn grammar(fields: &mut Fields) -> Result<Option<Grammar>, ApiError> {
    let mut format = fields.take_object("response_format")?;
    let kind: Option<String> = format.take("type")?;
    let schema = match kind.as_deref() {
        None | Some("text") => None,
        Some("json_object") => Some(Value::from_iter([("type", "object")])),
        Some("json_schema") => {
            let mut described = format.take_object("json_schema")?;
            let schema = described.require("schema")?;
            for known in ["name", "description", "strict"] {
                described.take::<Value>(known)?;
            }
            described.refuse_rest()?;
            Some(schema)
        }
        Some(other) => {
            return Err(format.complaint("type", format!("{other:?} is none of text, json_object, json_schema")));
        }
    };
    format.refuse_rest()?;
    let grammar = schema.map(|schema| schema::grammar(&schema)).transpose();
    grammar.map_err(|problem| fields.complaint("response_format", problem.to_string()))
}
