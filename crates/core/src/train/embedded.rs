//! The forms of a file of embeddings, and what stands beside its numbers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::names::with_ending;
use crate::vectors::MadeBy;

/// The form of the written embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum EmbedFormat {
    /// NumPy's array file `[images, d]`, float32; ids, classes, the model's path and hash stand beside it in `<out>.ids.json`, but
    /// not beside a pipe or device.
    Npy,
    /// One tensor `embeddings`; ids, classes, the model's path and hash stand in its document.
    Safetensors,
    /// A row an image: `id`, `class` where there are labels, and a column for each number, `embedding_0` and so on.
    Csv,
    /// A JSON object a line with `id`, `class` where there are labels, and the list `embedding`.
    Jsonl,
    /// Apache Parquet with the same columns, `embedding` a list.
    Parquet,
    /// An Arrow IPC file (Feather 2) with the same columns, `embedding` a list of fixed size.
    Arrow,
}

impl EmbedFormat {
    /// Each with the endings of its files.
    const ENDINGS: [(EmbedFormat, &'static [&'static str]); 6] = [
        (EmbedFormat::Npy, &["npy"]),
        (EmbedFormat::Safetensors, &["safetensors"]),
        (EmbedFormat::Csv, &["csv"]),
        (EmbedFormat::Jsonl, &["jsonl", "ndjson"]),
        (EmbedFormat::Parquet, &["parquet"]),
        (EmbedFormat::Arrow, &["arrow", "feather", "ipc"]),
    ];

    /// That of a file of this name.
    pub fn of(path: &Path) -> Option<EmbedFormat> {
        let ending = path.extension()?.to_string_lossy().to_ascii_lowercase();
        Self::ENDINGS.iter().find(|(_, endings)| endings.contains(&&ending[..])).map(|(format, _)| *format)
    }

    /// All endings, for messages.
    pub fn endings() -> String {
        let all: Vec<String> = Self::ENDINGS.iter().map(|(_, endings)| format!(".{}", endings[0])).collect();
        all.join(", ")
    }
}

/// The file of the ids of the `.npy` file `out`.
pub(super) fn ids_beside(out: &Path) -> PathBuf {
    with_ending(out, ".ids.json")
}

/// The id of every row, its class where there are labels, and the model.
pub(super) fn names(ids: &[String], classes: Option<&[String]>, made_by: &MadeBy) -> serde_json::Value {
    let mut names = json!({ "ids": ids });
    if let Some(classes) = classes {
        names["classes"] = classes.into();
    }
    names["model"] = made_by.model[..].into();
    names["modelHash"] = made_by.hash.as_deref().into();
    names
}
