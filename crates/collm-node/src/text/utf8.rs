//! Bytes to characters, when a character's bytes come in several pieces.

/// Decodes a stream of UTF-8, keeping incomplete characters back.
#[derive(Debug, Default)]
pub struct Utf8Stream {
    /// Begins with at most three bytes of an incomplete character; empty after [`Utf8Stream::finish`].
    pending: Vec<u8>,
}

impl Utf8Stream {
    /// The characters that are complete now. Bytes that no later byte can make valid become U+FFFD.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend_from_slice(bytes);
        let incomplete = incomplete_suffix(&self.pending);
        let rest = self.pending.split_off(self.pending.len() - incomplete);
        let complete = std::mem::replace(&mut self.pending, rest);
        String::from_utf8_lossy(&complete).into_owned()
    }

    /// What is left: U+FFFD for an incomplete character.
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }
}

/// Bytes at the end that more bytes may complete to a character.
fn incomplete_suffix(bytes: &[u8]) -> usize {
    bytes.utf8_chunks().last().map_or(0, |chunk| {
        let invalid = chunk.invalid();
        match std::str::from_utf8(invalid) {
            // No length: the input ended too early, which is what may be completed.
            Err(error) if error.error_len().is_none() => invalid.len(),
            _ => 0,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_wait_for_their_last_byte() {
        let mut stream = Utf8Stream::default();
        let rocket = "🚀".as_bytes();
        assert_eq!(stream.push(&[b'a', rocket[0]]), "a");
        assert_eq!(stream.push(&rocket[1..3]), "");
        assert_eq!(stream.push(&[rocket[3], b'b']), "🚀b");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn hopeless_bytes_do_not_hold_the_text_back() {
        let mut stream = Utf8Stream::default();
        assert_eq!(stream.push(&[0xff, b'a']), "\u{fffd}a");
        assert_eq!(stream.push(&[0xf0, 0x9f]), "");
        assert_eq!(stream.push(b"b"), "\u{fffd}b", "no character begins so and goes on with b");
    }

    #[test]
    fn any_split_of_any_bytes_decodes_as_the_whole() {
        let bytes: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 23) as u8).collect();
        let whole = String::from_utf8_lossy(&bytes);
        for size in 1..9 {
            let mut stream = Utf8Stream::default();
            let mut text: String = bytes.chunks(size).map(|piece| stream.push(piece)).collect();
            text.push_str(&stream.finish());
            assert_eq!(text, whole, "pieces of {size} bytes");
        }
    }
}
