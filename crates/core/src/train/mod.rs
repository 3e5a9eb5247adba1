//! The training loop, its session, events and checkpoints.

pub mod event;
pub mod stand_in;
