//! The training loop, its session, events and checkpoints.
//!
//! [`session`] is the main path: opening, one step top to bottom, saving. [`pass`] takes a batch through the network and
//! back, [`objective`] adds up the losses, [`balance`] finds weights, [`teacher`] gives what they compare with, [`evaluate`](mod@evaluate) and [`embed`](mod@embed) use a stored network,
//! [`checkpoint`] is the file between two steps. `cost` tells beforehand when a step would be slow.

pub mod balance;
pub mod checkpoint;
pub mod collapse;
mod compatibility;
mod cost;
pub mod embed;
pub mod evaluate;
pub mod event;
mod initial_weights;
pub mod loss_parameters;
pub mod neighbours;
pub mod objective;
pub mod pass;
pub mod plan;
pub mod report;
pub mod segment;
pub mod session;
pub mod teacher;

pub use embed::{EmbedPlan, embed};
pub use evaluate::{EvaluatePlan, evaluate_model};
pub use event::{Control, Event};
pub use initial_weights::WeightsPlan;
pub use neighbours::{NeighboursPlan, neighbours};
pub use plan::{Device, Plan};
pub use session::{Session, Who};
pub use teacher::{TeacherFeatures, TeacherPlan};
