//! Which of some words was probably meant: for errors about a name that is not there.

/// The `choices` nearest to `word`, best first, at most `count` of them.
pub(crate) fn nearest<'a>(word: &str, choices: impl Iterator<Item = &'a str>, count: usize) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = choices.map(|choice| (distance(word, choice), choice)).collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(count).map(|(_, choice)| choice).collect()
}

/// The one of `choices` nearest to `word`, if it is near enough for a slip of the fingers.
pub(crate) fn likely<'a>(word: &str, choices: &[&'a str]) -> Option<&'a str> {
    let [near] = nearest(&word.to_lowercase(), choices.iter().copied(), 1)[..] else { return None };
    let edits = distance(&word.to_lowercase(), &near.to_lowercase());
    (edits <= (near.len() / 3).max(1)).then_some(near)
}

/// Number of letters to insert, delete or replace to come from `a` to `b` (Levenshtein 1966).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for j in 0..b.len() {
            let replaced = diagonal + usize::from(b[j] != letter);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(nearest("leyer1", ["layer2", "fc", "layer1"].into_iter(), 2), ["layer1", "layer2"]);
    }
}
