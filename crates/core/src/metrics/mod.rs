//! What a run is judged by: retrieval, classification, and how well a student keeps its teacher's relations.
//!
//! All are exact, except where a head says that it samples; all give the same bits on any number of threads.

mod classification;
mod fidelity;
mod retrieval;

pub use classification::top_k_accuracy;
pub use fidelity::{Fidelity, FidelityOptions, relation_fidelity};
pub use retrieval::{Retrieval, retrieval};
