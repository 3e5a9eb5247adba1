//! The training loop, its session, events and checkpoints.

pub mod event;
