//! From the bytes of tokens to text that may be shown: tokens end in the middle of characters, and stop strings begin in
//! the middle of tokens. Deliberately absent: tokenisation and chat templates, which come with the model.

mod stop;
mod utf8;

use collm_core::ids::TokenId;

pub use self::{
    stop::{StopError, StopStrings},
    utf8::Utf8Stream,
};

/// What a driver needs to know of a model's vocabulary to turn tokens into text.
pub trait Vocabulary: Send + Sync {
    /// The bytes that a token adds to the text; possibly part of a character. Empty for tokens that are not there.
    fn token_bytes(&self, token: TokenId) -> &[u8];

    /// Whether the token ends an answer. Such a token adds no text.
    fn is_end(&self, token: TokenId) -> bool;
}

/// The text of one answer, token by token.
#[derive(Debug)]
pub struct TextStream {
    characters: Utf8Stream,
    stop: StopStrings,
}

/// What one token adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Piece {
    /// The token's own text, as far as its characters are complete.
    pub own: String,
    /// Text that may now be shown: it can no longer become part of a stop string.
    pub shown: String,
    /// A stop string is complete; nothing is shown afterwards.
    pub stopped: bool,
}

impl TextStream {
    /// A text that ends before the first of these strings.
    pub fn new(stop: StopStrings) -> Self {
        Self { characters: Utf8Stream::default(), stop }
    }

    /// Takes the bytes of the next token.
    pub fn push(&mut self, token_bytes: &[u8]) -> Piece {
        let own = self.characters.push(token_bytes);
        self.show(own)
    }

    /// The end of the text: what was kept back is shown, an incomplete character as U+FFFD.
    pub fn finish(&mut self) -> Piece {
        let own = self.characters.finish();
        let mut piece = self.show(own);
        piece.shown.push_str(&self.stop.finish());
        piece
    }

    fn show(&mut self, own: String) -> Piece {
        let shown = self.stop.push(&own);
        Piece { own, shown, stopped: self.stop.is_complete() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(stop: &[&str]) -> TextStream {
        TextStream::new(StopStrings::new(stop.iter().map(ToString::to_string).collect()).expect("usable stop strings"))
    }

    /// Everything shown when `text` arrives in pieces of `size` bytes.
    fn shown(stop: &[&str], text: &[u8], size: usize) -> String {
        let mut stream = stream(stop);
        let mut shown: String = text.chunks(size).map(|bytes| stream.push(bytes).shown).collect();
        shown.push_str(&stream.finish().shown);
        shown
    }

    #[test]
    fn the_cut_does_not_depend_on_the_tokens() {
        let text = "Hi 👩‍🚀 — done.\n\nUser: more\n\nUs";
        for size in 1..=text.len() {
            assert_eq!(shown(&[], text.as_bytes(), size), text, "pieces of {size} bytes");
            assert_eq!(shown(&["\n\nUser:"], text.as_bytes(), size), "Hi 👩‍🚀 — done.", "pieces of {size} bytes");
            assert_eq!(shown(&["🚀", "done"], text.as_bytes(), size), "Hi 👩\u{200d}", "pieces of {size} bytes");
            assert_eq!(shown(&["absent"], text.as_bytes(), size), text, "pieces of {size} bytes");
        }
    }

    #[test]
    fn nothing_follows_a_stop_string() {
        let mut stream = stream(&["END"]);
        assert_eq!(stream.push(b"aE"), Piece { own: "aE".into(), shown: "a".into(), stopped: false });
        assert_eq!(stream.push(b"NDb"), Piece { own: "NDb".into(), shown: String::new(), stopped: true });
        assert_eq!(stream.push(b"c").shown, "");
        assert_eq!(stream.finish().shown, "");
    }

    #[test]
    fn an_unfinished_character_is_replaced_at_the_end() {
        let mut stream = stream(&["x"]);
        assert_eq!(stream.push(&"é".as_bytes()[..1]), Piece::default());
        assert_eq!(stream.finish().shown, "\u{fffd}");
    }
}
