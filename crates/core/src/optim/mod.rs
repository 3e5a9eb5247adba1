//! Optimisers, learning-rate schedules and gradient clipping.

mod optimizer;
mod schedule;
mod spec;

pub use optimizer::{Optimizer, StepReport};
pub use schedule::ScheduleSpec;
pub use spec::OptimizerSpec;
