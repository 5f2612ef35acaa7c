//! Chat templates: how a conversation becomes one prompt. They are programs that come with a model, in Jinja as the
//! transformers library runs it, so they run with a budget and see nothing but the conversation.

mod date;
mod json;

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value, context};
use minijinja_contrib::pycompat::unknown_method_callback;

use crate::gguf::{self, Gguf};

/// Work a template may do: about as many instructions, or 64 times as many bytes. Ordinary ones need a few hundred a message.
const FUEL: u64 = 2_000_000;
/// Nested macros and loops; real templates nest a handful.
const RECURSION_MAX: usize = 100;
/// Real templates have a few thousand bytes.
const SOURCE_BYTES_MAX: usize = 1 << 20;

const TEMPLATE: &str = "chat_template";

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`; templates may know others.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template, compiled.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos_token: String,
    eos_token: String,
}

/// Why a conversation has no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// The template is no valid Jinja.
    #[error("the model's chat template cannot be read: {0}")]
    Syntax(String),
    /// The template is longer than any real one.
    #[error("the model's chat template has {0} bytes, more than {SOURCE_BYTES_MAX}")]
    TooLong(usize),
    /// The template refuses the conversation, for roles that do not alternate for example.
    #[error("the model's chat template refuses this conversation: {0}")]
    Refused(String),
    /// The template ran too long, or made too much text.
    #[error("the model's chat template does not come to an end within its budget")]
    OutOfFuel,
    /// The template failed.
    #[error("the model's chat template failed: {0}")]
    Failed(String),
}

impl ChatTemplate {
    /// The template of a model or part; `None` if it has none, as base models do.
    pub fn of_model(gguf: &Gguf) -> Result<Option<Self>, TemplateError> {
        let Some(source) = gguf.value("tokenizer.chat_template") else { return Ok(None) };
        let source = source.as_str().ok_or_else(|| TemplateError::Syntax("it is no text".to_owned()))?;
        let token = |name| special_token(gguf, name).unwrap_or_default();
        Self::new(source, token("bos"), token("eos")).map(Some)
    }

    /// Compiles a template; `bos_token` and `eos_token` are what it can write at the begin and end of texts.
    pub fn new(source: &str, bos_token: String, eos_token: String) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::TooLong(source.len()));
        }
        let mut environment = environment();
        environment
            .add_template_owned(TEMPLATE, source.to_owned())
            .map_err(|error| TemplateError::Syntax(error.to_string()))?;
        Ok(Self { environment, bos_token, eos_token })
    }

    /// The prompt that asks for the assistant's next message.
    pub fn render(&self, messages: &[Message]) -> Result<String, TemplateError> {
        self.render_at(messages, true, SystemTime::now())
    }

    /// The prompt at a given time, with or without the words that open the assistant's message.
    pub fn render_at(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        now: SystemTime,
    ) -> Result<String, TemplateError> {
        let messages: Vec<Value> = messages.iter().map(message_value).collect();
        let context = context! {
            messages => messages,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos_token.as_str(),
            eos_token => self.eos_token.as_str(),
            strftime_now => Value::from_function(move |format: &str| date::format_utc(now, format)),
        };
        let template = self.environment.get_template(TEMPLATE).map_err(|error| rename(&error))?;
        template.render(context).map_err(|error| rename(&error))
    }
}

/// Jinja as transformers sets it up.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters are valid"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(unknown_method_callback);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(RECURSION_MAX);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", json::to_json);
    environment
}

fn message_value(message: &Message) -> Value {
    Value::from_pairs([("role", message.role.as_str()), ("content", message.content.as_str())])
}

/// Marks an error as the template's own decision.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised by the template").with_source(Refusal(message)))
}

fn rename(error: &Error) -> TemplateError {
    if error.kind() == ErrorKind::OutOfFuel {
        return TemplateError::OutOfFuel;
    }
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(current) = cause {
        if let Some(Refusal(message)) = current.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        cause = current.source();
    }
    TemplateError::Failed(error.to_string())
}

/// The text of the token whose id is in `tokenizer.ggml.<name>_token_id`.
fn special_token(gguf: &Gguf, name: &str) -> Option<String> {
    let id = gguf.value(&format!("tokenizer.ggml.{name}_token_id"))?.as_u64()?;
    let Some(gguf::Value::Array(tokens)) = gguf.value("tokenizer.ggml.tokens") else { return None };
    let token = tokens.element_at(usize::try_from(id).ok()?)?;
    token.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests;
