//! Colours: one a source of tokens, and the few that messages need. `anstream` strips them where they are not wanted.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Color, Style};
use collm_core::edge::Source;

use crate::args::ColorWhen;

pub(crate) const ERROR: Style = AnsiColor::Red.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const FAINT: Style = Style::new().dimmed();
pub(crate) const STRONG: Style = Style::new().bold();

/// Decides for the whole process, before anything is printed.
pub(crate) fn choose(when: ColorWhen) {
    let choice = match when {
        ColorWhen::Auto => anstream::ColorChoice::Auto,
        ColorWhen::Always => anstream::ColorChoice::Always,
        ColorWhen::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
}

/// The colour of tokens from `source`; those given in place of the cloud's are underlined.
pub(crate) fn of_token(source: Source, degraded: bool) -> Style {
    let colour = match source {
        Source::Exit1 => AnsiColor::Green,
        Source::Exit2 => AnsiColor::Cyan,
        Source::Cloud => AnsiColor::Magenta,
        Source::Whole => AnsiColor::Blue,
    };
    let style = Style::new().fg_color(Some(Color::Ansi(colour)));
    if degraded { style.underline() } else { style }
}

/// What people call a source.
pub(crate) fn source_name(source: Source) -> &'static str {
    match source {
        Source::Exit1 => "edge, exit 1",
        Source::Exit2 => "edge, exit 2",
        Source::Cloud => "cloud",
        Source::Whole => "whole model",
    }
}

/// Text in a style.
pub(crate) struct Painted<T>(pub(crate) Style, pub(crate) T);

impl<T: Display> Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(style, text) = self;
        write!(f, "{style}{text}{style:#}")
    }
}
