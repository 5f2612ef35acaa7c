//! What was asked for goes to stdout. Whoever reads it may stop in the middle, as `head` does: that is no failure.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

/// Why something is not printed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrintError {
    /// The reader has seen enough.
    #[error("nobody reads on")]
    Unread,
    /// A full disk, for example.
    #[error("cannot print")]
    Io(#[source] io::Error),
}

impl From<io::Error> for PrintError {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::Unread } else { Self::Io(error) }
    }
}

/// A line.
pub(crate) fn line(text: impl Display) -> Result<(), PrintError> {
    Ok(writeln!(anstream::stdout().lock(), "{text}")?)
}

/// A piece of a line, at once.
pub(crate) fn piece(text: impl Display) -> Result<(), PrintError> {
    let mut out = anstream::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}
