//! A session as its caller sees it, whatever it runs on.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::Control;
use super::look::Look;
use super::report::{Evaluation, SegmentReport, SessionSummary};
use crate::data::Part;
use crate::error::Result;

/// What a caller asks of a session, whatever it runs on.
pub trait Training {
    /// What the session is about to do.
    fn summary(&self) -> SessionSummary;

    /// What the caller gave to [`save_checkpoint`](Training::save_checkpoint), after a resume; else null.
    fn policy(&self) -> &Value;

    /// Trains until `until_step` steps have been done since the run began, or until cancelled, whichever comes first.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` if a loss, a gradient or an embedding stops being a finite number: it names step and term or
    /// tensor. The parameters are those of the step before; where gradients are not the host's, the check of a gradient
    /// comes with the next step's features, and the parameters are lost.
    fn train(&mut self, until_step: u64, control: &Control) -> Result<SegmentReport>;

    /// Measures the student as it is now, or a teacher, on one part of the data.
    ///
    /// # Errors
    /// `ERR_INVALID_DATA` if the part has no images, `ERR_CANCELLED` if cancelled.
    fn evaluate(&mut self, who: Who, part: Part, ks: &[usize], control: &Control) -> Result<Evaluation>;

    /// Embeds at most `most` images of a part by the student as it is now, those that [`look`](super::look()) shows of a stored one.
    ///
    /// # Errors
    /// As [`evaluate`](Training::evaluate).
    fn look(&mut self, part: Part, most: usize, control: &Control) -> Result<Look>;

    /// Remembers the present weights as the best.
    fn keep(&mut self) -> Result<()>;

    /// Writes a checkpoint, whole or not at all; `policy` comes back from [`policy`](Training::policy) after a resume.
    fn save_checkpoint(&mut self, path: &Path, policy: Value) -> Result<()>;

    /// Writes `data.json`, what later jobs compare their data with: see [`crate::data::record`].
    fn save_record(&self, path: &Path) -> Result<()>;

    /// Writes `model.safetensors`: the weights last kept if `best`, else the present ones. The same run gives the same
    /// bytes.
    fn save_model(&mut self, path: &Path, best: bool) -> Result<()>;
}

/// Whose embeddings are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Who {
    /// The network that is trained.
    Student,
    /// The teacher at this place of the plan, from 0.
    Teacher(usize),
}
