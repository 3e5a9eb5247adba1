//! Optimisers, learning-rate schedules and gradient clipping.

mod optimizer;
mod schedule;
mod spec;

pub use optimizer::{GradientNorm, Optimizer, check_all_reached};
pub use schedule::ScheduleSpec;
pub use spec::OptimizerSpec;
