//! Choosing negatives for triplets.
