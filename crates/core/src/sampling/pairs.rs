//! The pair selector: one anchor and one positive of each class.

use std::collections::HashMap;

/// The first two rows `[anchor, positive]` of every class that has two or more, in the order of the anchors.
///
/// The batch sampler has drawn a class's rows at random already, so the first two are as good as any. A third row and
/// all further ones are in no pair.
pub fn first_pairs(labels: &[u32]) -> Vec<[usize; 2]> {
    let mut seen: HashMap<u32, Option<usize>> = HashMap::new();
    let mut pairs = Vec::new();
    for (row, &label) in labels.iter().enumerate() {
        match seen.get_mut(&label) {
            None => {
                seen.insert(label, Some(row));
            }
            Some(first) => pairs.extend(first.take().map(|first| [first, row])),
        }
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_the_first_two_rows_of_each_class() {
        assert_eq!(first_pairs(&[5, 7, 9, 7, 5, 7, 5, 5, 7]), [[0, 4], [1, 3]]);
        assert_eq!(first_pairs(&[0, 1, 2, 0, 1, 2]), [[0, 3], [1, 4], [2, 5]]);
        assert_eq!(first_pairs(&[1, 2, 3]), [[0; 2]; 0]);
        assert_eq!(first_pairs(&[]), [[0; 2]; 0]);
    }
}
