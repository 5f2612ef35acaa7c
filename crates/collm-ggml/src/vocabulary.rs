//! The vocabulary of a model: text to tokens and back, by llama.cpp's tokenizers.
//!
//! llama.cpp reads the vocabulary from the file itself, of a whole model or of a part; no weights are loaded. The bytes of
//! all tokens are read once, so that giving one out costs nothing and needs no lock.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::fmt;
use std::ptr::NonNull;

use collm_core::ids::TokenId;
use collm_engine::TokenTexts;
use collm_model::ModelFile;
use collm_model::gguf::{Gguf, Value};
use llama_cpp_sys_2 as sys;

/// Tokens of a text, at most: what llama.cpp can count.
const TEXT_BYTES_MAX: usize = 1 << 28;

/// A loaded vocabulary. Cheap to share: nothing in it changes.
pub struct Vocabulary {
    model: Model,
    /// `bytes[starts[token]..starts[token + 1]]` is a token's text.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    markup: Vec<bool>,
    end_tokens: Vec<TokenId>,
    /// Before every prompt, if the model was trained so.
    begin: Option<TokenId>,
}

/// Whether markup in a text, such as `<|im_start|>`, stands for its token or for its characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// It stands for its token: text of a chat template.
    Tokens,
    /// It stands for its characters: text of a person.
    Characters,
}

/// Why a vocabulary cannot be loaded or a text cannot be tokenised.
#[derive(Debug, thiserror::Error)]
pub enum VocabularyError {
    /// The file's tokenizer is unknown or its lists contradict one another.
    #[error("the vocabulary of {0} cannot be read; the log says why")]
    Unreadable(String),
    /// The vocabulary is not the one of the weights.
    #[error("{path} lists {listed} tokens but its weights are for {expected}")]
    Size {
        /// The file.
        path: String,
        /// Tokens in the vocabulary.
        listed: usize,
        /// Rows of the LM head.
        expected: usize,
    },
    /// The text is too long.
    #[error("the text is {0} bytes long; at most {TEXT_BYTES_MAX} can be tokenised")]
    TooLong(usize),
}

impl Vocabulary {
    /// Loads the vocabulary of a whole model or a part.
    ///
    /// # Errors
    /// [`VocabularyError::Unreadable`] and [`VocabularyError::Size`].
    pub fn load(file: &ModelFile) -> Result<Self, VocabularyError> {
        crate::device::initialise();
        let path = file.path().display().to_string();
        if !is_sound(file.gguf()) {
            return Err(VocabularyError::Unreadable(path));
        }
        let model = Model::load(file).ok_or_else(|| VocabularyError::Unreadable(path.clone()))?;
        let (listed, expected) = (model.token_count(), file.hyperparameters().vocabulary as usize);
        if listed != expected {
            return Err(VocabularyError::Size { path, listed, expected });
        }
        let (mut bytes, mut starts) = (Vec::new(), vec![0]);
        for token in 0..listed {
            model.push_piece(token as i32, &mut bytes).ok_or_else(|| VocabularyError::Unreadable(path.clone()))?;
            starts.push(u32::try_from(bytes.len()).map_err(|_| VocabularyError::Unreadable(path.clone()))?);
        }
        let every = |test: unsafe extern "C" fn(*const sys::llama_vocab, sys::llama_token) -> bool| -> Vec<bool> {
            // SAFETY: the vocabulary lives in `model`, and the tokens are below its count.
            (0..listed).map(|token| unsafe { test(model.vocabulary(), token as i32) }).collect()
        };
        let markup = every(sys::llama_vocab_is_control);
        let ends = (0..).map(TokenId).zip(every(sys::llama_vocab_is_eog));
        let end_tokens = ends.filter(|(_, ends)| *ends).map(|(token, _)| token).collect();
        let begin = model.begin();
        Ok(Self { model, bytes, starts, markup, end_tokens, begin })
    }

    /// The token's text. It need not be whole UTF-8: a character may be spread over several tokens. Markup adds no
    /// text, and neither does a token that is not in the vocabulary.
    pub fn token_bytes(&self, token: TokenId) -> &[u8] {
        let index = token.0 as usize;
        match self.starts.get(index..index.saturating_add(2)) {
            Some([start, end]) => &self.bytes[*start as usize..*end as usize],
            _ => &[],
        }
    }

    /// Whether the token steers the conversation and is no text of an answer.
    pub fn is_markup(&self, token: TokenId) -> bool {
        self.markup.get(token.0 as usize).copied().unwrap_or(false)
    }

    /// The token to put before every text, if the model was trained with one.
    pub fn begin_token(&self) -> Option<TokenId> {
        self.begin
    }

    /// The token that ends a turn, if the file names one.
    pub fn turn_end(&self) -> Option<TokenId> {
        // SAFETY: the vocabulary lives in the model.
        unsafe { [sys::llama_vocab_eot(self.model.vocabulary()), sys::llama_vocab_eos(self.model.vocabulary())] }
            .into_iter()
            .find_map(token)
    }

    /// What a token is called in the file: for markup, the text that stands for it.
    pub fn name(&self, token: TokenId) -> Option<String> {
        if token.0 as usize >= self.markup.len() {
            return None;
        }
        // SAFETY: the token is in the vocabulary, which lives in the model; its texts are terminated.
        let text = unsafe { CStr::from_ptr(sys::llama_vocab_get_text(self.model.vocabulary(), token.0 as i32)) };
        Some(text.to_string_lossy().into_owned())
    }

    /// The tokens that an answer ends with, in order.
    pub fn end_tokens(&self) -> &[TokenId] {
        &self.end_tokens
    }

    /// The tokens of a prompt: those of the text, after the token that the model wants before every text, unless the text
    /// (a chat template's) already begins with it.
    ///
    /// # Errors
    /// [`VocabularyError::TooLong`].
    pub fn tokenize_prompt(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, VocabularyError> {
        let mut tokens = self.tokenize(text, markup)?;
        if let Some(begin) = self.begin.filter(|begin| tokens.first() != Some(begin)) {
            tokens.insert(0, begin);
        }
        Ok(tokens)
    }

    /// The tokens of a text, nothing added.
    ///
    /// # Errors
    /// [`VocabularyError::TooLong`].
    pub fn tokenize(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, VocabularyError> {
        let too_long = || VocabularyError::TooLong(text.len());
        if text.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
        // One token a byte is the most that any tokenizer makes; some put a space before the text.
        let mut ids = vec![0; text.len() + 2];
        let count = self.tokenize_into(text, markup, &mut ids);
        let count = if count < 0 {
            ids.resize(count.unsigned_abs() as usize, 0);
            self.tokenize_into(text, markup, &mut ids)
        } else {
            count
        };
        ids.truncate(usize::try_from(count).map_err(|_| too_long())?);
        Ok(ids.into_iter().filter_map(token).collect())
    }

    /// The number of tokens, or minus the number that would be needed.
    fn tokenize_into(&self, text: &str, markup: Markup, ids: &mut [sys::llama_token]) -> i32 {
        let parse_markup = markup == Markup::Tokens;
        // SAFETY: text and ids are given with their lengths, which fit i32 by `TEXT_BYTES_MAX`.
        unsafe {
            sys::llama_tokenize(
                self.model.vocabulary(),
                text.as_ptr().cast(),
                text.len() as i32,
                ids.as_mut_ptr(),
                ids.len() as i32,
                false,
                parse_markup,
            )
        }
    }
}

impl TokenTexts for Vocabulary {
    fn bytes(&self, token: TokenId) -> &[u8] {
        self.token_bytes(token)
    }

    fn ends(&self, token: TokenId) -> bool {
        self.end_tokens.contains(&token)
    }
}

impl fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vocabulary").field("tokens", &self.markup.len()).finish_non_exhaustive()
    }
}

/// Whether llama.cpp can load the vocabulary and tokenise any text with it. It aborts the process where two tokens are the same, and
/// throws through C where a tokeniser that falls back to bytes has no tokens for them.
fn is_sound(gguf: &Gguf) -> bool {
    let Some(Value::Array(listed)) = gguf.value("tokenizer.ggml.tokens") else { return false };
    let mut tokens = HashSet::new();
    for (index, token) in listed.iter().enumerate() {
        // It takes texts up to their first NUL, and calls those without a text so.
        let Some(text) = token.as_str().filter(|text| !text.contains('\0')) else { return false };
        let text = if text.is_empty() { format!("[EMPTY_{index}]") } else { text.to_owned() };
        if !tokens.insert(text) {
            return false;
        }
    }
    let tokenizer = gguf.value("tokenizer.ggml.model");
    match tokenizer.as_ref().and_then(Value::as_str) {
        Some("gpt2") => true,
        Some("llama") => (0..=u8::MAX).all(|byte| tokens.contains(&format!("<0x{byte:02X}>"))),
        // No supported architecture comes with another one.
        _ => false,
    }
}

fn token(id: sys::llama_token) -> Option<TokenId> {
    u32::try_from(id).ok().map(TokenId)
}

/// llama.cpp's object, loaded without weights.
struct Model(NonNull<sys::llama_model>);

// SAFETY: after loading it is only read, through functions that llama.cpp declares to take it as const.
unsafe impl Send for Model {}
unsafe impl Sync for Model {}

impl Model {
    fn load(file: &ModelFile) -> Option<Self> {
        let path = CString::new(file.path().as_os_str().as_encoded_bytes()).ok()?;
        // SAFETY: the parameters come from llama.cpp and the path is terminated; null is a refusal.
        let model = unsafe {
            let mut parameters = sys::llama_model_default_params();
            parameters.vocab_only = true;
            sys::llama_model_load_from_file(path.as_ptr(), parameters)
        };
        NonNull::new(model).map(Self)
    }

    fn vocabulary(&self) -> *const sys::llama_vocab {
        // SAFETY: the model lives.
        unsafe { sys::llama_model_get_vocab(self.0.as_ptr()) }
    }

    fn token_count(&self) -> usize {
        // SAFETY: the vocabulary lives in the model.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocabulary()) }).unwrap_or(0)
    }

    /// The token to put before every text, if the model was trained with one.
    fn begin(&self) -> Option<TokenId> {
        // SAFETY: the vocabulary lives in the model.
        unsafe {
            let wanted = sys::llama_vocab_get_add_bos(self.vocabulary());
            token(sys::llama_vocab_bos(self.vocabulary())).filter(|_| wanted)
        }
    }

    /// Appends a token's text. `None` if llama.cpp contradicts itself on its length.
    fn push_piece(&self, token: sys::llama_token, bytes: &mut Vec<u8>) -> Option<()> {
        /// Longer than nearly every token; others take a second call.
        const USUAL_BYTES: usize = 64;
        let start = bytes.len();
        bytes.resize(start + USUAL_BYTES, 0);
        let mut length = self.piece(token, &mut bytes[start..]);
        if length < 0 {
            bytes.resize(start + length.unsigned_abs() as usize, 0);
            length = self.piece(token, &mut bytes[start..]);
        }
        bytes.truncate(start + usize::try_from(length).ok()?);
        Some(())
    }

    /// Bytes written, or minus the number that would be needed.
    fn piece(&self, token: sys::llama_token, out: &mut [u8]) -> i32 {
        // SAFETY: the buffer is given with its length; the token is below the count.
        unsafe {
            sys::llama_token_to_piece(self.vocabulary(), token, out.as_mut_ptr().cast(), out.len() as i32, 0, false)
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: made by `load`, freed once.
        unsafe { sys::llama_model_free(self.0.as_ptr()) }
    }
}
