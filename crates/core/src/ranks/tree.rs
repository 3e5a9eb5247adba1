//! Sums as a binary tree, whose shape follows from the number of leaves alone.

use std::ops::Range;

/// The leaves of a batch's tree that `rank` of `size` has, where they can be shared out ([`can_share`]).
pub fn share(leaves: usize, rank: usize, size: usize) -> Range<usize> {
    rank * leaves / size..(rank + 1) * leaves / size
}

/// Whether so many ranks get a whole branch each: as many leaves as all others, a power of two. One rank gets any tree.
pub fn can_share(leaves: usize, size: usize) -> bool {
    size == 1 || (leaves.is_multiple_of(size) && (leaves / size).is_power_of_two())
}

/// A sum that is told its leaves one after the other, and has no more than log2 of them in memory.
pub struct Tree<T> {
    /// Branches from the left, each with the number of its leaves.
    branches: Vec<(usize, T)>,
}

impl<T> Default for Tree<T> {
    fn default() -> Self {
        Tree { branches: Vec::new() }
    }
}

impl<T> Tree<T> {
    /// Takes the next leaf.
    ///
    /// # Errors
    /// Those of `add`.
    pub fn push<E>(&mut self, leaf: T, mut add: impl FnMut(T, T) -> Result<T, E>) -> Result<(), E> {
        let (mut leaves, mut branch) = (1, leaf);
        while let Some((_, left)) = self.branches.pop_if(|(others, _)| *others == leaves) {
            branch = add(left, branch)?;
            leaves *= 2;
        }
        self.branches.push((leaves, branch));
        Ok(())
    }

    /// The sum of all leaves; nothing of none.
    ///
    /// # Errors
    /// Those of `add`.
    pub fn sum<E>(mut self, mut add: impl FnMut(T, T) -> Result<T, E>) -> Result<Option<T>, E> {
        let Some((_, mut sum)) = self.branches.pop() else { return Ok(None) };
        while let Some((_, left)) = self.branches.pop() {
            sum = add(left, sum)?;
        }
        Ok(Some(sum))
    }
}

/// Adds rows of `length` numbers, in the order of the tree, up into the first one.
pub(super) fn sum_rows(rows: &mut [f32], length: usize) {
    let count = rows.len() / length.max(1);
    let mut width = 1;
    while width < count {
        for left in (0..count - width).step_by(2 * width) {
            let (before, right) = rows.split_at_mut((left + width) * length);
            let left = &mut before[left * length..][..length];
            left.iter_mut().zip(&right[..length]).for_each(|(left, right)| *left += right);
        }
        width *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sum as it is written down, to see its shape.
    fn shape(leaves: Range<usize>) -> String {
        let mut tree = Tree::default();
        let add = |a: String, b: String| Ok::<_, ()>(format!("({a}+{b})"));
        leaves.for_each(|leaf| tree.push(leaf.to_string(), add).unwrap());
        tree.sum(add).unwrap().unwrap_or_default()
    }

    #[test]
    fn the_shape_follows_from_the_number_of_leaves() {
        assert_eq!(shape(0..0), "");
        assert_eq!(shape(0..1), "0");
        assert_eq!(shape(0..2), "(0+1)");
        assert_eq!(shape(0..8), "(((0+1)+(2+3))+((4+5)+(6+7)))");
        assert_eq!(shape(0..7), "(((0+1)+(2+3))+((4+5)+6))");
    }

    #[test]
    fn ranks_that_share_the_leaves_out_have_branches_of_the_same_tree() {
        for leaves in 1..=24 {
            for size in (1..=leaves).filter(|&size| can_share(leaves, size)) {
                let mut tree = Tree::default();
                let add = |a: String, b: String| Ok::<_, ()>(format!("({a}+{b})"));
                (0..size).for_each(|rank| tree.push(shape(share(leaves, rank, size)), add).unwrap());
                assert_eq!(tree.sum(add).unwrap().unwrap(), shape(0..leaves), "{leaves} leaves, {size} ranks");
            }
        }
        let possible = |leaves| (1..=leaves).filter(|&size| can_share(leaves, size)).collect::<Vec<_>>();
        assert_eq!(possible(8), [1, 2, 4, 8]);
        assert_eq!(possible(12), [1, 3, 6, 12]);
        assert_eq!(possible(7), [1, 7]);
    }

    #[test]
    fn rows_are_added_in_the_order_of_the_tree() {
        // Sums of these hang on the order: 1 is lost beside 2^24.
        let large = 16_777_216.0;
        for count in 1..=9 {
            let mut rows: Vec<f32> = (0..count).map(|i| [large, 1.0, -large, 1.0, 3.0][i % 5]).collect();
            let mut tree = Tree::default();
            let add = |a: f32, b: f32| Ok::<_, ()>(a + b);
            rows.iter().for_each(|&row| tree.push(row, add).unwrap());
            sum_rows(&mut rows, 1);
            assert_eq!(rows[0], tree.sum(add).unwrap().unwrap(), "{count}");
        }
    }
}
