//! Which of a repository's files is meant.

/// Preferred where a person states no quantisation, best first.
const PREFERRED: [&str; 3] = ["Q4_K_M", "Q8_0", "Q4_0"];

/// The one file of `files` that `quant` means; the error says why there is none.
pub(super) fn choose<'a>(files: &'a [String], quant: Option<&str>) -> Result<&'a str, String> {
    let models: Vec<&str> = files.iter().map(String::as_str).filter(|file| is_model(file)).collect();
    let chosen = match quant {
        Some(quant) => matching(&models, quant)?.ok_or_else(|| format!("no file matches {quant}"))?,
        None => preferred(&models)?,
    };
    if is_piece(chosen) {
        return Err(format!("{chosen} is one piece of a model in several files, which is not supported"));
    }
    Ok(chosen)
}

/// Vision projectors are GGUF files too, and no language models.
fn is_model(file: &str) -> bool {
    let lower = file.to_ascii_lowercase();
    lower.ends_with(".gguf") && !lower.contains("mmproj")
}

fn preferred<'a>(models: &[&'a str]) -> Result<&'a str, String> {
    for quant in PREFERRED {
        if let Some(file) = matching(models, quant)? {
            return Ok(file);
        }
    }
    match models {
        [] => Err("there is no model in gguf format".to_owned()),
        [only] => Ok(only),
        _ => Err("state which file with hf:user/repo:quant".to_owned()),
    }
}

/// Files whose name contains `quant`; where there are several, the one whose name ends with it.
fn matching<'a>(models: &[&'a str], quant: &str) -> Result<Option<&'a str>, String> {
    let quant = quant.to_ascii_lowercase();
    let stem = |file: &str| file.to_ascii_lowercase().trim_end_matches(".gguf").to_owned();
    let containing: Vec<_> = models.iter().copied().filter(|file| stem(file).contains(&quant)).collect();
    let ending: Vec<_> = containing.iter().copied().filter(|file| stem(file).ends_with(&quant)).collect();
    match (&*containing, &*ending) {
        ([], _) => Ok(None),
        ([only], _) | (_, [only]) => Ok(Some(only)),
        (several, _) => Err(format!("{} files match {quant}", several.len())),
    }
}

/// Whether the name ends like `-00001-of-00003.gguf`.
fn is_piece(file: &str) -> bool {
    let stem = file.trim_end_matches(".gguf");
    let mut ends = stem.rsplitn(4, '-');
    let numeric =
        |part: Option<&str>| part.is_some_and(|part| part.len() == 5 && part.bytes().all(|byte| byte.is_ascii_digit()));
    numeric(ends.next()) && ends.next() == Some("of") && numeric(ends.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[&str], quant: Option<&str>, expected: Result<&str, &str>) {
        let files: Vec<_> = files.iter().map(|&file| file.to_owned()).collect();
        match (choose(&files, quant), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
            (found, expected) => panic!("{found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn files_are_chosen_by_quantisation() {
        let many = ["README.md", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-Q4_0.gguf", "m-Q4_0_4_4.gguf", "mmproj-Q2_K.gguf"];
        check(&many, Some("q8_0"), Ok("m-Q8_0.gguf"));
        check(&many, Some("Q4_0"), Ok("m-Q4_0.gguf"));
        check(&many, Some("Q4"), Err("3 files match"));
        check(&many, Some("Q2_K"), Err("no file matches"));
        check(&many, None, Ok("m-Q4_K_M.gguf"));
    }

    #[test]
    fn without_a_preferred_one_there_must_be_one() {
        check(&["m-Q8_0.gguf", "m-Q4_0.gguf"], None, Ok("m-Q8_0.gguf"));
        check(&["m.gguf", "x.txt"], None, Ok("m.gguf"));
        check(&["m-Q2_K.gguf", "m-Q3_K.gguf"], None, Err("state which"));
        check(&["model.safetensors"], None, Err("no model in gguf format"));
    }

    #[test]
    fn models_in_several_files_are_refused() {
        check(&["m-Q8_0-00001-of-00002.gguf", "m-Q8_0-00002-of-00002.gguf"], None, Err("2 files match"));
        check(&["m-Q8_0-00001-of-00001.gguf"], None, Err("several files"));
    }
}
