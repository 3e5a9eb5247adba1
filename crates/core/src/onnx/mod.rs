//! ONNX models: somebody else's network, read and judged before anything runs, then run by an engine.
//!
//! ```text
//! file -> Graph (what stands in it) -> Model (what goes in, what comes out, who can run it) -> features of a batch
//! ```
//! [`graph`] reads the file without its weights; [`input`] finds out which pixels it takes and [`output`] which of its tensors
//! is the embedding, each with a reason in words where it cannot be known; `preprocessor` reads what a file beside it says of the
//! images; [`engine`] runs it: rten, which is always there, or
//! onnxruntime where its library is found. [`model`] puts it together.
//!
//! Letters: n images, h and w pixels, c channels, d numbers of an embedding, t tokens.

mod bytes;
pub mod engine;
pub mod graph;
pub mod input;
pub mod model;
pub mod output;
mod preprocessor;

pub use engine::EngineChoice;
pub use graph::Graph;
pub use input::{InputForm, Layout, Scale};
pub use model::{OnnxModel, OnnxOptions, OnnxReport};
pub use output::{OutputForm, Pooling};
