//! Fitted exits that come with the program, for models that it knows by name.

use collm_model::Alias;

/// The exits file of a model, byte for byte as in the repository's folder `exits`. `None`: none has been fitted yet.
pub(crate) fn of(alias: Alias) -> Option<&'static [u8]> {
    match alias {
        Alias::SmolLm2_135m => Some(include_bytes!("../../../exits/smollm2-135m.exits.gguf")),
        Alias::Gemma3_270m => None,
    }
}
