//! How people name models: an alias, `hf:user/repo[:quant]`, or a path.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The name of a model, as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// A model this program knows, with its digest.
    Alias(Alias),
    /// A repository on the model hub.
    Hub(HubReference),
    /// A file.
    Path(PathBuf),
}

/// Models that come from the Python package index, checked against pinned digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Alias {
    /// SmolLM2-135M-Instruct, Q4_1, llama architecture: the default model.
    SmolLm2_135m,
    /// Gemma 3 270M (base), Q4_K_M.
    Gemma3_270m,
}

/// A repository on the model hub, and which of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubReference {
    /// `user/repo`.
    pub repo: String,
    /// Part of the file's name, in any case; without it a common one is preferred.
    pub quant: Option<String>,
}

/// The text names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Neither an alias, nor a hub reference, nor a path.
    #[error("{0:?} is no known model; use smollm2-135m, gemma3-270m, hf:user/repo[:quant] or the path of a .gguf file")]
    Unknown(String),
    /// `hf:` followed by something else than a repository.
    #[error("{0:?} is no model on the hub; write hf:user/repo or hf:user/repo:quant")]
    Hub(String),
}

impl Alias {
    /// Every alias.
    pub const ALL: [Self; 2] = [Self::SmolLm2_135m, Self::Gemma3_270m];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SmolLm2_135m => "smollm2-135m",
            Self::Gemma3_270m => "gemma3-270m",
        }
    }
}

impl ModelReference {
    /// Reads what a person wrote.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if let Some(alias) = Alias::ALL.into_iter().find(|alias| alias.name() == text) {
            return Ok(Self::Alias(alias));
        }
        if let Some(hub) = text.strip_prefix("hf:") {
            return HubReference::parse(hub).map(Self::Hub).ok_or_else(|| ReferenceError::Hub(text.to_owned()));
        }
        let path = PathBuf::from(text);
        let looks_like_path = text.contains('/') || text.to_ascii_lowercase().ends_with(".gguf");
        if looks_like_path || path.is_file() {
            return Ok(Self::Path(path));
        }
        Err(ReferenceError::Unknown(text.to_owned()))
    }
}

impl HubReference {
    fn parse(text: &str) -> Option<Self> {
        let (repo, quant) = match text.split_once(':') {
            Some((repo, quant)) => (repo, Some(quant)),
            None => (text, None),
        };
        let (user, name) = repo.split_once('/')?;
        let good = is_component(user) && is_component(name) && quant.is_none_or(is_component);
        good.then(|| Self { repo: repo.to_owned(), quant: quant.map(str::to_owned) })
    }
}

/// What may stand in an address or a file name as one component.
fn is_component(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=96).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('.') && !text.contains("..")
}

impl FromStr for ModelReference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        Self::parse(text)
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(alias) => f.write_str(alias.name()),
            Self::Hub(hub) => hub.fmt(f),
            Self::Path(path) => path.display().fmt(f),
        }
    }
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hf:{}", self.repo)?;
        self.quant.iter().try_for_each(|quant| write!(f, ":{quant}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_read_back() {
        let kinds = [
            ("smollm2-135m", "alias"),
            ("gemma3-270m", "alias"),
            ("hf:user/re.po-GGUF", "hub"),
            ("hf:user/repo:q4_k_m", "hub"),
            ("./model.gguf", "path"),
            ("model.GGUF", "path"),
            ("/models/plain", "path"),
        ];
        for (text, kind) in kinds {
            let reference = ModelReference::parse(text).unwrap();
            let found = match &reference {
                ModelReference::Alias(_) => "alias",
                ModelReference::Hub(_) => "hub",
                ModelReference::Path(_) => "path",
            };
            assert_eq!((found, reference.to_string().as_str()), (kind, text));
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "smollm3", "hf:", "hf:repo", "hf:a/b/c", "hf:../x", "hf:a/b:", "hf:a/b:c/d", "hf:a b/c"] {
            assert!(ModelReference::parse(text).is_err(), "{text}");
        }
    }
}
