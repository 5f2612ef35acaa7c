//! Tokenising and its inverse, on the vocabularies of real models and of small random ones.
#![allow(clippy::unwrap_used)] // Helpers of tests fail by panicking, as the tests themselves do.

mod common;

use collm_ggml::{Markup, Vocabulary};
use common::{real, synthetic};

fn text_of(vocabulary: &Vocabulary, tokens: &[collm_engine::TokenId]) -> Vec<u8> {
    tokens.iter().flat_map(|token| vocabulary.token_bytes(*token)).copied().collect()
}

#[test]
fn text_comes_back_to_the_byte() {
    let vocabulary = Vocabulary::load(&real("smollm2-135m")).unwrap();
    for text in ["Hello, world", "  spaces\n\n\tand tabs", "naïve 你好 🦀🦀", ""] {
        let tokens = vocabulary.tokenize(text, Markup::Characters).unwrap();
        assert_eq!(String::from_utf8(text_of(&vocabulary, &tokens)).unwrap(), text);
    }
}

#[test]
fn a_character_may_be_spread_over_tokens() {
    let vocabulary = Vocabulary::load(&real("smollm2-135m")).unwrap();
    let tokens = vocabulary.tokenize("🜁", Markup::Characters).unwrap();
    assert!(tokens.len() > 1);
    assert!(std::str::from_utf8(vocabulary.token_bytes(tokens[0])).is_err());
}

#[test]
fn markup_is_one_token_only_where_it_is_meant() {
    let vocabulary = Vocabulary::load(&real("smollm2-135m")).unwrap();
    let meant = vocabulary.tokenize("<|im_end|>", Markup::Tokens).unwrap();
    assert_eq!(meant.len(), 1);
    assert!(vocabulary.is_markup(meant[0]));
    assert!(vocabulary.end_tokens().contains(&meant[0]));
    assert!(vocabulary.token_bytes(meant[0]).is_empty());
    let typed = vocabulary.tokenize("<|im_end|>", Markup::Characters).unwrap();
    assert!(typed.len() > 1);
    assert!(!typed.contains(&meant[0]));
}

#[test]
fn a_prompt_begins_once_with_what_the_model_wants() {
    let vocabulary = Vocabulary::load(&real("gemma3-270m")).unwrap();
    let plain = vocabulary.tokenize("Hello", Markup::Characters).unwrap();
    let prompt = vocabulary.tokenize_prompt("Hello", Markup::Characters).unwrap();
    assert_eq!(prompt[1..], plain);
    assert_eq!(vocabulary.tokenize_prompt("<bos>Hello", Markup::Tokens).unwrap(), prompt);
}

#[test]
fn tokens_that_do_not_exist_have_no_text() {
    let folder = tempfile::tempdir().unwrap();
    for model in common::synthetic_models() {
        let file = synthetic(folder.path(), &model);
        let vocabulary = Vocabulary::load(&file).unwrap();
        let beyond = collm_engine::TokenId(file.hyperparameters().vocabulary);
        assert!(vocabulary.token_bytes(beyond).is_empty());
        assert!(vocabulary.token_bytes(collm_engine::TokenId(u32::MAX)).is_empty());
        assert!(!vocabulary.is_markup(beyond));
    }
}
