//! A SentencePiece vocabulary of 300 tokens that can write any text: every byte, every letter and a few frequent pairs.

use crate::gguf::{Array, GgufWriter, Value, ValueType};

/// Token types as the tokenizer's format numbers them.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;

const PAIRS: [&str; 14] = ["▁t", "▁a", "he", "in", "er", "▁the", "an", "on", "re", "▁s", "▁w", "nd", "▁o", "at"];

/// Adds the vocabulary to a file's metadata. Beginning of text is token 1, end of text token 2.
pub(super) fn write(writer: &mut GgufWriter<'_>) {
    let tokens = tokens();
    let scores = tokens.iter().enumerate().map(|(index, _)| Value::F32(-(index as f32)));
    let types = tokens.iter().map(|&(_, ty)| Value::I32(ty));
    writer.set("tokenizer.ggml.model", Value::string("llama"));
    writer.set("tokenizer.ggml.pre", Value::string("default"));
    writer.set("tokenizer.ggml.scores", Value::Array(Array::new(ValueType::F32, scores)));
    writer.set("tokenizer.ggml.token_type", Value::Array(Array::new(ValueType::I32, types)));
    let texts: Vec<_> = tokens.iter().map(|(text, _)| text).collect();
    writer.set("tokenizer.ggml.tokens", Value::Array(Array::of_strings(&texts)));
    writer.set("tokenizer.ggml.unknown_token_id", Value::U32(0));
    writer.set("tokenizer.ggml.bos_token_id", Value::U32(1));
    writer.set("tokenizer.ggml.eos_token_id", Value::U32(2));
}

fn tokens() -> Vec<(String, i32)> {
    let special = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)];
    let bytes = (0..=u8::MAX).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
    let letters = ('a'..='z').chain(['▁']).map(|letter| (letter.to_string(), NORMAL));
    let pairs = PAIRS.iter().map(|&pair| (pair.to_owned(), NORMAL));
    special.map(|(text, ty)| (text.to_owned(), ty)).into_iter().chain(bytes).chain(letters).chain(pairs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_distinct() {
        let mut texts: Vec<_> = tokens().into_iter().map(|(text, _)| text).collect();
        assert_eq!(texts.len(), 300);
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 300);
    }
}
