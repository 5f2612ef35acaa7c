//! How much of a text another one says: ROUGE-L (Lin, 2004) and exact match, over words without case or punctuation.

/// F1 of the longest common subsequence of words, in `[0, 1]`. Two texts without words are equal.
pub fn rouge_l(text: &str, reference: &str) -> f64 {
    let (text, reference) = (words(text), words(reference));
    let all = text.len() + reference.len();
    if all == 0 {
        return 1.0;
    }
    2.0 * longest_common_subsequence(&text, &reference) as f64 / all as f64
}

/// Whether both texts have the same words.
pub fn exact_match(text: &str, reference: &str) -> bool {
    words(text) == words(reference)
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}

fn longest_common_subsequence(one: &[String], other: &[String]) -> usize {
    let mut lengths = vec![0; other.len() + 1];
    for word in one {
        let mut diagonal = 0;
        for (index, against) in other.iter().enumerate() {
            let above = lengths[index + 1];
            lengths[index + 1] = if word == against { diagonal + 1 } else { above.max(lengths[index]) };
            diagonal = above;
        }
    }
    lengths[other.len()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rouge_l_is_that_of_its_paper() {
        // Lin's example, with F1 in place of his weighted F: common are "police … the gunman", and "the gunman".
        let reference = "police killed the gunman";
        assert_eq!(rouge_l("police kill the gunman", reference), 0.75);
        assert_eq!(rouge_l("the gunman kill police", reference), 0.5);
        assert_eq!(rouge_l("the gunman police killed", reference), 0.5);
    }

    #[test]
    fn case_and_punctuation_do_not_count() {
        assert!(exact_match("Yes, it is.", "yes it is"));
        assert!(!exact_match("Yes.", "No."));
        assert_eq!(rouge_l("Zwei Äpfel!", "zwei äpfel"), 1.0);
        assert_eq!((rouge_l("", ""), rouge_l("a", ""), rouge_l("", "a")), (1.0, 0.0, 0.0));
    }

    proptest! {
        #[test]
        fn overlap_is_symmetric_and_bounded(one in "[a-c ]{0,20}", other in "[a-c ]{0,20}") {
            let overlap = rouge_l(&one, &other);
            prop_assert_eq!(overlap, rouge_l(&other, &one));
            prop_assert!((0.0..=1.0).contains(&overlap));
            prop_assert_eq!(rouge_l(&one, &one), 1.0);
        }
    }
}
