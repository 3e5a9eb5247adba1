//! The training loop, its session, events and checkpoints.
