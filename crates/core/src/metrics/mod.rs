//! What a run is judged by: retrieval, classification, and how well a student keeps its teacher's relations.
//!
//! All are exact, except where a head says that it samples; all give the same bits on any number of threads.

mod classification;
mod few_shot;
mod fidelity;
mod retrieval;

pub use classification::top_k_accuracy;
pub use few_shot::{FewShot, FewShotPlan, few_shot};
pub use fidelity::{Fidelity, FidelityOptions, relation_fidelity};
pub use retrieval::{Labelled, Neighbour, Retrieval, nearest, retrieval, retrieval_in};
