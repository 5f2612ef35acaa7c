//! Lines that are typed: with editing and a history on a terminal, as they come elsewhere.

use std::{
    io::{IsTerminal as _, Lines, StdinLock, stdin},
    path::PathBuf,
};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;
use rustyline::{Config, DefaultEditor, error::ReadlineError};
use tracing::debug;

/// Lines that are kept for the next conversation.
const HISTORY_MAX: usize = 1000;

pub(super) enum Input {
    Terminal { editor: Box<DefaultEditor>, history: Option<PathBuf> },
    Plain(Lines<StdinLock<'static>>),
}

/// What was typed.
pub(super) enum Typed {
    Line(String),
    /// Ctrl-c: the line is not meant.
    Interrupted,
    /// Ctrl-d, or no more lines.
    End,
}

impl Input {
    pub(super) fn open() -> anyhow::Result<Self> {
        if !stdin().is_terminal() {
            return Ok(Self::Plain(stdin().lines()));
        }
        let config = Config::builder().max_history_size(HISTORY_MAX).context("the history has a size")?;
        let mut editor = DefaultEditor::with_config(config.auto_add_history(true).build())
            .context("cannot use this terminal; pipe lines in instead")?;
        let history = history();
        if let Some(file) = &history {
            // The first conversation has none.
            let _ = editor.load_history(file);
        }
        Ok(Self::Terminal { editor: Box::new(editor), history })
    }

    pub(super) fn is_terminal(&self) -> bool {
        matches!(self, Self::Terminal { .. })
    }

    pub(super) fn next(&mut self) -> anyhow::Result<Typed> {
        match self {
            Self::Terminal { editor, .. } => match editor.readline("> ") {
                Ok(line) => Ok(Typed::Line(line)),
                Err(ReadlineError::Interrupted) => Ok(Typed::Interrupted),
                Err(ReadlineError::Eof) => Ok(Typed::End),
                Err(error) => Err(error).context("cannot read from this terminal"),
            },
            Self::Plain(lines) => match lines.next() {
                Some(line) => Ok(Typed::Line(line.context("stdin is no text")?)),
                None => Ok(Typed::End),
            },
        }
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        let Self::Terminal { editor, history: Some(file) } = self else { return };
        let folder = file.parent().map_or(Ok(()), std::fs::create_dir_all);
        if let Err(error) = folder.map_err(ReadlineError::from).and_then(|()| editor.save_history(file)) {
            debug!(%error, "the history is not kept");
        }
    }
}

/// What was typed stays with the person: beside their other programs' data.
fn history() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.data_dir().join("collm").join("chat-history"))
}
