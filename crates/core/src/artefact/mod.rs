//! What a run writes and reads: models, checkpoints, vectors.
