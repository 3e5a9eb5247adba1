//! Patterns that choose parameters by name: `conv1`, `layer1.*`, `*.bias`.
//!
//! A star stands for any letters, dots among them. A pattern chooses the parameters whose names it fits, and those of
//! the modules whose names it fits: `layer1` is `layer1.0.conv1.weight` and all others below it, but not `layer10.weight`.

use crate::error::{Code, Error, Result};
use crate::spelling;

/// Whether `pattern` chooses the parameter `name`.
pub fn chooses(pattern: &str, name: &str) -> bool {
    let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
    ends.into_iter().any(|end| fits(pattern.as_bytes(), &name.as_bytes()[..end]))
}

/// For every name whether any of `patterns` chooses it.
///
/// # Errors
/// `ERR_INVALID_OPTION` for a pattern that chooses nothing: it names the `option` and lists near names.
pub fn choose(option: &str, patterns: &[String], names: &[&str]) -> Result<Vec<bool>> {
    for pattern in patterns {
        if !names.iter().any(|name| chooses(pattern, name)) {
            return Err(nothing(option, pattern, names));
        }
    }
    Ok(names.iter().map(|name| patterns.iter().any(|pattern| chooses(pattern, name))).collect())
}

/// The error for a pattern that chooses none of `names`.
fn nothing(option: &str, pattern: &str, names: &[&str]) -> Error {
    let modules = names.iter().flat_map(|name| name.match_indices('.').map(|(end, _)| &name[..end]));
    let near = spelling::nearest(pattern.trim_end_matches(".*"), modules.chain(names.iter().copied()), 5);
    Error::new(Code::InvalidOption, "the pattern chooses no parameter")
        .with_subject(option)
        .with_values(format!("names or patterns such as {}", near.join(", ")), format!("{pattern:?}"))
        .with_advice("a star stands for any letters: layer1.* or *.bias")
}

/// Whether the whole `name` fits `pattern`. Where the rest does not fit, the last star takes one letter more.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, taken)) = star {
            (p, n) = (at + 1, taken + 1);
            star = Some((at, taken + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_modules_and_stars() {
        let table = [
            ("conv1.weight", "conv1.weight", true),
            ("conv1", "conv1.weight", true),
            ("conv1", "conv10.weight", false),
            ("layer1.*", "layer1.0.bn1.bias", true),
            ("layer1.*", "layer10.0.bias", false),
            ("*.bias", "layer1.0.bn1.bias", true),
            ("*.bias", "bias", false),
            ("layer?", "layer1.weight", false),
            ("*bn*", "layer1.0.bn1.weight", true),
            ("l*1.*.w*t", "layer1.0.conv1.weight", true),
            ("l*1.*.w*t", "layer1.0.conv1.weights.x", false),
            ("**", "anything", true),
            ("", "anything", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(chooses(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_chooses_nothing_lists_near_names() {
        let names = ["conv1.weight", "layer1.0.conv1.weight", "fc.bias"];
        let error = choose("freeze", &["leyer1".into()], &names).unwrap_err();
        assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some("freeze")));
        assert!(error.to_string().contains("such as layer1"), "{error}");
        assert_eq!(choose("freeze", &["fc".into(), "*conv1*".into()], &names).unwrap(), [true, true, true]);
    }
}
