//! llama.cpp's own inference of a whole model: the reference for our numbers and the opponent of our speed.
//!
//! One sequence, greedy, f16 key-value memory and flash attention, as our engine has them. Not for serving.

use std::ffi::CString;
use std::path::Path;
use std::ptr::NonNull;

use collm_core::ids::TokenId;
use llama_cpp_sys_2 as sys;

/// A whole model in llama.cpp, with an empty context.
#[derive(Debug)]
pub struct Oracle {
    context: Context,
    vocabulary: usize,
    // After the context, which uses it: fields drop in this order.
    _model: Model,
}

/// How the model is loaded.
#[derive(Debug, Clone, Copy)]
pub struct OracleOptions {
    /// Positions.
    pub context: u32,
    /// Rows computed at once.
    pub batch_rows: u32,
    /// Threads, for prompts and for single tokens.
    pub threads: u32,
    /// Whether weights may be repacked for faster kernels, as llama.cpp does by default.
    pub repack: bool,
}

/// Why llama.cpp did not do it.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// The file was refused.
    #[error("llama.cpp cannot load {0}; its log says why")]
    Load(String),
    /// A context was refused.
    #[error("llama.cpp cannot make a context of {0} positions; its log says why")]
    Context(u32),
    /// A batch was refused.
    #[error("llama.cpp failed to decode, code {0}")]
    Decode(i32),
}

impl Oracle {
    /// Loads a whole GGUF file on the processor.
    ///
    /// # Errors
    /// [`OracleError::Load`] and [`OracleError::Context`].
    pub fn load(path: &Path, options: OracleOptions) -> Result<Self, OracleError> {
        crate::device::initialise();
        let model = Model::load(path, options.repack)?;
        let context = Context::new(&model, options)?;
        // SAFETY: the model is alive.
        let vocabulary = unsafe { sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model.0.as_ptr())) };
        Ok(Self { context, vocabulary: usize::try_from(vocabulary).unwrap_or(0), _model: model })
    }

    /// Appends `tokens` and returns the logits after the last of them.
    ///
    /// # Errors
    /// [`OracleError::Decode`], for example when the context is full.
    pub fn decode(&mut self, tokens: &[TokenId]) -> Result<&[f32], OracleError> {
        let mut ids: Vec<sys::llama_token> = tokens.iter().map(|token| token.0.cast_signed()).collect();
        let count = i32::try_from(ids.len()).map_err(|_| OracleError::Decode(-1))?;
        // SAFETY: the batch borrows `ids`, which outlives the call.
        let code =
            unsafe { sys::llama_decode(self.context.0.as_ptr(), sys::llama_batch_get_one(ids.as_mut_ptr(), count)) };
        if code != 0 {
            return Err(OracleError::Decode(code));
        }
        // SAFETY: the context is alive; after a decode it holds `vocabulary` logits of the last token until the next one.
        unsafe {
            let logits = sys::llama_get_logits_ith(self.context.0.as_ptr(), -1);
            if logits.is_null() {
                return Err(OracleError::Decode(-1));
            }
            Ok(std::slice::from_raw_parts(logits, self.vocabulary))
        }
    }

    /// Forgets all positions.
    pub fn clear(&mut self) {
        // SAFETY: the context is alive and owns the memory.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.context.0.as_ptr()), false) }
    }
}

#[derive(Debug)]
struct Model(NonNull<sys::llama_model>);

impl Model {
    fn load(path: &Path, repack: bool) -> Result<Self, OracleError> {
        let refused = || OracleError::Load(path.display().to_string());
        let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| refused())?;
        // SAFETY: the parameters come from llama.cpp and the name is terminated; null is a refusal.
        let model = unsafe {
            let mut parameters = sys::llama_model_default_params();
            parameters.n_gpu_layers = 0;
            parameters.use_extra_bufts = repack;
            sys::llama_model_load_from_file(name.as_ptr(), parameters)
        };
        NonNull::new(model).map(Self).ok_or_else(refused)
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: made by `load`, freed once, and no context uses it any more.
        unsafe { sys::llama_model_free(self.0.as_ptr()) }
    }
}

#[derive(Debug)]
struct Context(NonNull<sys::llama_context>);

impl Context {
    fn new(model: &Model, options: OracleOptions) -> Result<Self, OracleError> {
        // SAFETY: the model is alive and the parameters come from llama.cpp; null is a refusal.
        let context = unsafe {
            let mut parameters = sys::llama_context_default_params();
            parameters.n_ctx = options.context;
            parameters.n_batch = options.batch_rows;
            parameters.n_ubatch = options.batch_rows;
            parameters.n_seq_max = 1;
            parameters.n_threads = options.threads.cast_signed();
            parameters.n_threads_batch = options.threads.cast_signed();
            parameters.flash_attn_type = sys::LLAMA_FLASH_ATTN_TYPE_ENABLED;
            parameters.type_k = sys::GGML_TYPE_F16;
            parameters.type_v = sys::GGML_TYPE_F16;
            sys::llama_init_from_model(model.0.as_ptr(), parameters)
        };
        NonNull::new(context).map(Self).ok_or(OracleError::Context(options.context))
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: made by `new` and freed once.
        unsafe { sys::llama_free(self.0.as_ptr()) }
    }
}
