//! What a typed line means.

use collm_core::{
    budget::Target,
    policy::{Mode, Threshold},
};

use crate::args::values::{self, Auto};

pub(super) const HELP: &str = "\
/mode [MODE]            show or choose who decides: whole, cloud, naive, standalone, collaborative, exact,
                        auto
/threshold [auto|0..1]  show or choose the confidence from which on the edge's own guess is taken
/budget [TARGET|none]   show or choose what an answer may cost, in place of a threshold: tpot=60ms or cloud=20%
/stats                  the numbers of the last answer
/clear                  begin a new conversation
/help                   this text
ctrl-c ends an answer, ctrl-d the conversation";

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    Nothing,
    /// For the model.
    Question(String),
    /// `None` asks what it is.
    Mode(Option<Mode>),
    /// `None` asks what it is.
    Threshold(Option<Auto<Threshold>>),
    /// `None` asks what it is.
    Budget(Option<Target>),
    NoBudget,
    Stats,
    Clear,
    Help,
}

impl Said {
    /// # Errors
    /// When it begins as a command does and is none, with what to type.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        let Some(command) = line.strip_prefix('/') else {
            return Ok(if line.is_empty() { Self::Nothing } else { Self::Question(line.to_owned()) });
        };
        let mut words = command.split_whitespace();
        match (words.next().unwrap_or_default(), words.next(), words.next()) {
            ("mode", mode, None) => Ok(Self::Mode(mode.map(values::mode).transpose()?)),
            ("threshold", threshold, None) => {
                Ok(Self::Threshold(threshold.map(values::threshold_or_auto).transpose()?))
            }
            ("budget", Some("none"), None) => Ok(Self::NoBudget),
            ("budget", budget, None) => {
                let budget = budget.map(values::budget).transpose().map_err(|error| error.to_string())?;
                Ok(Self::Budget(budget))
            }
            ("stats", None, None) => Ok(Self::Stats),
            ("clear", None, None) => Ok(Self::Clear),
            ("help" | "?", None, None) => Ok(Self::Help),
            _ => Err(format!("{line} is no command; /help shows those there are")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_question_or_a_command() {
        for (line, expected) in [
            ("  ", Said::Nothing),
            (" Why? ", Said::Question("Why?".into())),
            ("/mode exact", Said::Mode(Some(Mode::Exact))),
            ("/mode", Said::Mode(None)),
            ("/threshold 0.8", Said::Threshold(Some(Auto::Given(Threshold::DEFAULT)))),
            ("/threshold auto", Said::Threshold(Some(Auto::Auto))),
            ("/budget cloud=20%", Said::Budget("cloud=20%".parse().ok())),
            ("/budget none", Said::NoBudget),
            ("/budget", Said::Budget(None)),
            ("/stats", Said::Stats),
            ("/clear ", Said::Clear),
            ("/?", Said::Help),
        ] {
            assert_eq!(Said::parse(line), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn what_is_no_command_is_not_told_to_the_model() {
        for (line, expected) in [
            ("/moed exact", "/help shows"),
            ("/mode fast", "the modes are"),
            ("/threshold much", "write a confidence"),
            ("/budget little", "write a budget"),
            ("/clear now", "is no command"),
            ("/", "is no command"),
        ] {
            assert!(Said::parse(line).is_err_and(|message| message.contains(expected)), "{line:?}");
        }
    }
}
