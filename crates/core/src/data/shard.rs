//! A shard of a data set: one of several neighbouring parts, on which processes work that know nothing of each other.

use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::ranks::share;

/// Shard `index` of `count`, with `index < count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct Shard {
    /// Which one, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

impl Shard {
    /// Which of so many images are its own: neighbours in the order of the whole, and as many as another shard has, or one
    /// more or less.
    pub fn range(self, images: usize) -> Range<usize> {
        share(images, self.index, self.count)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_have_every_image_once_in_order_and_are_of_one_size_but_for_one_image() {
        for images in [1, 2, 7, 64, 1000] {
            for count in 1..=images.min(70) {
                let ranges: Vec<Range<usize>> = (0..count).map(|index| Shard { index, count }.range(images)).collect();
                assert_eq!((ranges[0].start, ranges[count - 1].end), (0, images));
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                let sizes = || ranges.iter().map(|range| range.len());
                assert!(sizes().min().unwrap() >= 1 && sizes().max().unwrap() - sizes().min().unwrap() <= 1);
            }
        }
        assert_eq!(Shard { index: 3, count: 100 }.to_string(), "3/100");
    }
}
