//! Stop strings: the text ends before the first of them, wherever the borders of the tokens are.

/// Strings that end a text, and the text that may still become one of them.
#[derive(Debug, Clone, Default)]
pub struct StopStrings {
    strings: Vec<String>,
    /// Not shown yet: the longest end of the text that begins a stop string.
    held: String,
    complete: bool,
}

/// Why strings cannot be stop strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopError {
    /// An empty string is everywhere.
    #[error("a stop string is empty; leave it out or give it a character")]
    Empty,
    /// Searching costs time with each token.
    #[error("{0} stop strings; at most {COUNT_MAX}")]
    TooMany(usize),
    /// Held-back text delays a stream.
    #[error("a stop string of {0} bytes; at most {BYTES_MAX}")]
    TooLong(usize),
}

const COUNT_MAX: usize = 16;
const BYTES_MAX: usize = 256;

impl StopStrings {
    /// Parses what a requester gave; none is fine.
    ///
    /// # Errors
    /// When a string is empty or too long, or there are too many.
    pub fn new(strings: Vec<String>) -> Result<Self, StopError> {
        if strings.len() > COUNT_MAX {
            return Err(StopError::TooMany(strings.len()));
        }
        match strings.iter().map(String::len).find(|&bytes| bytes == 0 || bytes > BYTES_MAX) {
            Some(0) => Err(StopError::Empty),
            Some(bytes) => Err(StopError::TooLong(bytes)),
            None => Ok(Self { strings, held: String::new(), complete: false }),
        }
    }

    /// Whether one of the strings has come.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Takes the next text and gives back what may be shown. Once complete, swallows everything.
    pub fn push(&mut self, text: &str) -> String {
        if self.complete {
            return String::new();
        }
        self.held.push_str(text);
        let shown = match self.first_match() {
            Some(start) => {
                self.complete = true;
                start
            }
            None => self.held.len() - self.begun(),
        };
        let rest = self.held.split_off(shown);
        std::mem::replace(&mut self.held, rest)
    }

    /// The end of the text: what was held back after all belongs to it.
    pub fn finish(&mut self) -> String {
        let held = std::mem::take(&mut self.held);
        if self.complete { String::new() } else { held }
    }

    /// Start of the string that is complete first; of several that end together, the longest. What is complete first does
    /// not depend on the pieces in which the text came.
    fn first_match(&self) -> Option<usize> {
        let found =
            self.strings.iter().filter_map(|stop| self.held.find(stop).map(|start| (start + stop.len(), start)));
        found.min().map(|(_, start)| start)
    }

    /// Bytes of the longest end of the text that begins a stop string.
    fn begun(&self) -> usize {
        let begun =
            |stop: &String| stop.char_indices().map(|(at, _)| at).rev().find(|&at| self.held.ends_with(&stop[..at]));
        self.strings.iter().filter_map(begun).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(strings: &[&str]) -> Result<StopStrings, StopError> {
        StopStrings::new(strings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn holds_back_only_what_may_become_a_stop_string() {
        let mut stop = stop(&["###", "#!"]).expect("two strings");
        assert_eq!(stop.push("a#"), "a");
        assert_eq!(stop.push("b##"), "#b");
        assert_eq!(stop.push("?"), "##?");
        assert_eq!(stop.push("#"), "");
        assert_eq!(stop.finish(), "#");
    }

    #[test]
    fn the_string_that_is_complete_first_wins() {
        for pieces in [&["xabcd"][..], &["xab", "cd"], &["x", "a", "b", "c", "d"]] {
            let mut stop = stop(&["abcd", "bc", "abc"]).expect("three strings");
            let shown: String = pieces.iter().map(|piece| stop.push(piece)).collect();
            assert_eq!((shown.as_str(), stop.is_complete()), ("x", true), "{pieces:?}");
        }
    }

    #[test]
    fn useless_strings_are_refused() {
        assert_eq!(stop(&["a", ""]).err(), Some(StopError::Empty));
        assert_eq!(stop(&["a"; 17]).err(), Some(StopError::TooMany(17)));
        assert_eq!(stop(&[&"a".repeat(257)]).err(), Some(StopError::TooLong(257)));
        assert!(stop(&[]).is_ok());
    }
}
