//! Where a session starts: at its first step, or at a checkpoint of an earlier one.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a session starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "SessionStart"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Start {
    /// The checkpoint to go on from; `None`: the first step.
    pub checkpoint: Option<PathBuf>,
    /// The `data.json` of the run that goes on; `None` for a new run.
    pub record: Option<PathBuf>,
    /// Whether data that are no longer those of the run, or of its teacher, are accepted.
    pub accept_changed_data: bool,
}
