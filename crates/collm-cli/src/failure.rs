//! How a failure looks: what happened, why, and the exit code.

use std::process::ExitCode;

use anyhow::Error;

use crate::{
    settings::Unusable,
    ui::{
        colour::{ERROR, Painted},
        print::PrintError,
    },
};

/// The arguments contradict each other in a way that only shows once they are settled.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Wrong usage, as an error.
pub(crate) fn usage<T>(message: impl Into<String>) -> anyhow::Result<T> {
    Err(Usage(message.into()).into())
}

/// Prints the failure and its causes; 2 for wrong usage, 1 for everything else. That nobody reads on is none.
pub(crate) fn report(error: Error) -> ExitCode {
    let error = match error.downcast::<Unusable>() {
        Ok(unusable) => return unusable.report(),
        Err(other) => other,
    };
    if let Some(PrintError::Unread) = error.downcast_ref::<PrintError>() {
        return ExitCode::SUCCESS;
    }
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    anstream::eprintln!("{} {}", Painted(ERROR, "error:"), told_once(&causes).join("\n  because: "));
    if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// Some libraries' errors repeat their cause in their own message.
fn told_once(causes: &[String]) -> Vec<&str> {
    let mut told: Vec<&str> = Vec::new();
    for cause in causes {
        if !told.iter().any(|before| before.contains(cause.as_str())) {
            told.push(cause);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_cause_is_told_once() {
        let causes = ["cannot load x".to_owned(), "x: bad magic".to_owned(), "bad magic".to_owned()];
        assert_eq!(told_once(&causes), ["cannot load x", "x: bad magic"]);
    }
}
