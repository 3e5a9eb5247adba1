//! Which items of a batch a loss compares: negatives for triplets, and one pair of each class.

mod distance_weighted;
mod negatives;
mod pairs;

pub use distance_weighted::{DistanceWeighting, distance_weights};
pub use negatives::{Negatives, Pairs, Sampler};
pub use pairs::first_pairs;
