//! CPU kernels of `rkd` over plain slices.
//!
//! This crate knows nothing of candle, of files or of Node, and depends on nothing but
//! `memmap2`. Activations are NHWC float32.
//! Every kernel takes a [`Team`]: work is cut into blocks by problem size, never by thread count, and sums are taken
//! in a fixed order, so the same inputs give the same bits on any number of threads.
//!
//! Layers of the crate, from the ground up: [`team`] (threads), `isa` and `simd` (the instruction set, chosen at run
//! time), `scratch` (memory that is reused between calls), [`matrix`] (tiles of a product), and the layer operations.
//!
//! A slice of the wrong length is a defect of the caller and panics with the name of the operation and both lengths.

pub mod activation;
pub mod attention;
pub mod channels;
pub mod convolution;
pub mod elementwise;
pub mod excitation;
pub mod finish;
pub mod isa;
pub mod linear;
pub mod matrix;
pub mod memory;
pub mod normalization;
pub mod optimizer;
pub mod peak;
pub mod pooling;
pub mod product;
pub mod relations;
pub mod retrieval;
pub mod team;
pub mod tokens;

mod check;
mod columns;
mod rows;
mod scratch;
mod simd;

pub use isa::Isa;
pub use team::Team;
