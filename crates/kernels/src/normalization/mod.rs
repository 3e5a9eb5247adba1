//! Normalisation: by the statistics of a batch, by those of each row, and of rows to unit length.

mod batch;
mod l2;
mod layer;
mod pooled;

pub use batch::{
    Passed, batch_norm_backward, batch_norm_eval, batch_norm_eval_backward, batch_norm_moments, batch_norm_statistics,
    batch_norm_train,
};
pub(crate) use batch::{Saved, apply_block, block_input_gradient, block_sums};
pub use l2::{l2_normalize, l2_normalize_backward};
pub use layer::{layer_norm, layer_norm_backward};
pub use pooled::{batch_norm_max_pool, batch_norm_max_pool_backward};
