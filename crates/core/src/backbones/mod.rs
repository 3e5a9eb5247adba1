//! The networks: lists of layers that read like the papers' tables.
