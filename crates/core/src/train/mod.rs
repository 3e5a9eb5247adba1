//! The training loop, its session, events and checkpoints.
//!
//! [`training`] is what a caller asks of a session, `open` chooses what it runs on; [`session`] is the main path: opening,
//! one step top to bottom, saving. [`pass`] takes a batch through the network and back, [`objective`] adds up the losses,
//! [`device_terms`] are those that the device computes, [`balance`] finds weights, [`teacher`] gives what they compare with,
//! [`evaluate`](mod@evaluate), [`stored`], [`embed`](mod@embed), [`embedded`], [`shards`], [`export`](mod@export) and [`look`](mod@look) use a stored network, `reference` measures by a teacher,
//! [`checkpoint`] is the file between two steps, [`together`] a session on several ranks and `share` what each does of a step. `cost` tells beforehand when a step would be slow, [`memory`] what a run
//! takes and `device_memory` what of a GPU, `known` whether data are still those of an earlier job.

pub mod balance;
pub mod checkpoint;
pub mod collapse;
mod compatibility;
mod cost;
#[cfg(any(test, feature = "cuda"))]
mod device_memory;
pub mod device_terms;
pub mod embed;
pub mod embedded;
pub mod evaluate;
pub mod event;
pub mod export;
pub mod host;
mod initial_weights;
mod known;
pub mod look;
pub mod loss_parameters;
pub mod memory;
pub mod neighbours;
pub mod objective;
mod open;
pub mod pass;
pub mod plan;
mod reference;
pub mod report;
pub mod segment;
pub mod session;
pub mod shards;
mod share;
pub mod start;
mod state;
pub mod stored;
pub mod teacher;
pub mod together;
pub mod training;

pub use compatibility::{check_labels, reads_labels};
pub use embed::{EmbedPlan, embed};
pub use event::{Control, Event};
pub use export::{ExportPlan, export};
pub use host::Host;
pub use initial_weights::WeightsPlan;
pub use look::{Look, look};
pub use neighbours::{NeighboursPlan, neighbours};
pub use open::open;
pub use plan::Plan;
pub use session::Session;
pub use shards::merge;
pub use start::Start;
pub use stored::{EvaluatePlan, evaluate_model};
pub use teacher::{TeacherFeatures, TeacherPlan, weights_of};
pub use together::{follow, lead, lead_evaluation};
pub use training::{Training, Who};
