//! Lists of layers as people write them: `10-11,16-29`.

/// A layer index above this is no layer of any model.
const LAYER_MAX: u32 = 511;

/// The text is no list of layers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no list of layers; write for example 10-11,16-29")]
pub struct LayerListError(String);

/// Reads indexes and ascending ranges, both ends included, separated by commas. Empty text is the empty list.
pub fn parse_layer_list(text: &str) -> Result<Vec<u32>, LayerListError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut layers = Vec::new();
    for item in text.split(',') {
        let (first, last) = parse_item(item).ok_or_else(|| LayerListError(text.to_owned()))?;
        layers.extend(first..=last);
    }
    Ok(layers)
}

fn parse_item(item: &str) -> Option<(u32, u32)> {
    let (first, last) = item.split_once('-').unwrap_or((item, item));
    let (first, last) = (parse_index(first)?, parse_index(last)?);
    (first <= last).then_some((first, last))
}

fn parse_index(text: &str) -> Option<u32> {
    let text = text.trim();
    // `u32::from_str` would take a sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&index| digits && index <= LAYER_MAX)
}

/// The inverse of [`parse_layer_list`]: runs of consecutive layers become ranges.
pub fn format_layer_list(layers: &[u32]) -> String {
    let runs = layers.chunk_by(|&before, &after| after.checked_sub(1) == Some(before));
    let items = runs.map(|run| match run {
        [only] => only.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    items.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_and_print() {
        for (text, layers) in [
            ("", vec![]),
            ("3", vec![3]),
            ("10-11,16-18", vec![10, 11, 16, 17, 18]),
            ("5,4,3", vec![5, 4, 3]),
            ("0-1,1", vec![0, 1, 1]),
        ] {
            assert_eq!(parse_layer_list(text).as_deref(), Ok(&*layers));
            assert_eq!(format_layer_list(&layers), text);
        }
        assert_eq!(parse_layer_list(" 1 - 2 , 4 "), Ok(vec![1, 2, 4]));
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["x", "1,", ",1", "3-2", "1-2-3", "-1", "+1", "512", "0-4294967295", "1;2"] {
            assert!(parse_layer_list(text).is_err(), "{text}");
        }
    }
}
