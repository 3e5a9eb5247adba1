//! What a user says about stored vectors.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::input::nullable;

/// How stored vectors are read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct VectorOptions {
    /// A file with the id of each vector, in their order: a text of one id a line, JSON, or a `.npy` of texts. Without it
    /// `NAME.ids.json` or `NAME.ids.txt` beside the vectors, where the file has no ids of its own.
    #[serde(deserialize_with = "nullable")]
    pub ids: Option<PathBuf>,
    /// The column, array or key with the ids. @default the one of a usual name (`id`, `path`, `file_name`, ...), else the
    /// only one that fits.
    #[serde(deserialize_with = "nullable")]
    pub id_column: Option<String>,
    /// The column, array or key with the vectors, or what the names of the columns with one number each begin with.
    /// @default the one of a usual name (`vector`, `embedding`, ...), else the only one that fits.
    #[serde(deserialize_with = "nullable")]
    pub vector_column: Option<String>,
    /// Whether images without a vector may be any number of the images. They are left out. @default false: at most one
    /// in ten
    pub allow_missing: bool,
}
