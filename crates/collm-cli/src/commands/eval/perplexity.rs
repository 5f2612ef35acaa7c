//! How much a text surprises the whole model, and the edge part alone.
//!
//! The text is read in windows, each from nothing, and every token but a window's first is predicted.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, ensure};
use collm_engine::{Head, TokenId};
use collm_ggml::{GgmlEngine, LoadOptions, Markup, Vocabulary};
use collm_model::ModelFile;
use collm_stats::Bootstrap;
use collm_tune::{
    TuneError,
    observe::log_probability,
    reader::{Reader, View},
};
use serde::Serialize;

use super::figure::Figure;
use crate::{commands::evidence::Subject, ui::progress::ProgressMode};

/// Tokens of a window, where the context has room for it.
const WINDOW: usize = 512;

/// Of one text.
#[derive(Debug, Serialize)]
pub(super) struct Perplexity {
    file: String,
    /// Tokens predicted.
    pub(super) tokens: usize,
    /// Windows, which are what the intervals are over.
    pub(super) windows: usize,
    pub(super) whole: Option<Figure>,
    /// At exit 2, over the whole vocabulary.
    pub(super) edge: Option<Figure>,
}

pub(super) fn measure(
    path: &Path,
    subject: &Subject,
    options: &LoadOptions,
    progress: ProgressMode,
) -> anyhow::Result<Perplexity> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read text from {}", path.display()))?;
    let tokens = Vocabulary::load(&subject.whole)?.tokenize(&text, Markup::Characters)?;
    let windows: Vec<&[TokenId]> =
        tokens.chunks(WINDOW.min(options.context)).filter(|window| window.len() > 1).collect();
    ensure!(!windows.is_empty(), "{} is too short to predict anything in it", path.display());
    Ok(Perplexity {
        file: path.display().to_string(),
        tokens: windows.iter().map(|window| window.len() - 1).sum(),
        windows: windows.len(),
        whole: of(&subject.whole, Head::Final, &windows, options, "reading the text with the whole model", progress)?,
        edge: of(&subject.edge, Head::Exit2, &windows, options, "reading the text with the edge part", progress)?,
    })
}

fn of(
    file: &Arc<ModelFile>,
    head: Head,
    windows: &[&[TokenId]],
    options: &LoadOptions,
    what: &str,
    progress: ProgressMode,
) -> anyhow::Result<Option<Figure>> {
    let mut step = progress.step(what);
    let mut reader = Reader::new(GgmlEngine::load(file, options)?, vec![head]);
    let mut sums = Vec::with_capacity(windows.len());
    for (index, window) in windows.iter().enumerate() {
        step.count(index, windows.len());
        let mut surprise = 0.0;
        let mut see = |view: View<'_>| -> Result<(), TuneError> {
            surprise -= log_probability(view.logits, window[view.position.index() + 1]);
            Ok(())
        };
        let (first, rest) = window.split_at(1);
        reader.begin(first, &mut see)?;
        reader.go_on(&rest[..rest.len() - 1], &mut see)?;
        sums.push((surprise, rest.len() as f64));
    }
    step.done("took");
    Ok(perplexity(&sums))
}

/// Of windows with their summed surprise in nats and their tokens.
fn perplexity(windows: &[(f64, f64)]) -> Option<Figure> {
    let of = |times: &[u32]| {
        let (surprise, tokens) = windows.iter().zip(times).fold((0.0, 0.0), |sum, (window, times)| {
            (sum.0 + window.0 * f64::from(*times), sum.1 + window.1 * f64::from(*times))
        });
        (tokens > 0.0).then(|| (surprise / tokens).exp())
    };
    Bootstrap::default().interval(windows.len(), of).map(Figure::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coin_has_a_perplexity_of_two() {
        let coin = perplexity(&[(10.0 * 2.0f64.ln(), 10.0), (5.0 * 2.0f64.ln(), 5.0)]).expect("windows");
        assert!(coin.number().starts_with("2.000 (2.000–2.000)"), "{coin:?}");
        assert_eq!(perplexity(&[]), None);
    }
}
