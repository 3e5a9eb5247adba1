//! Writing the embeddings of a whole data set to a file.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::evaluate::{StoredNetwork, embed_items, open_view, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::report::EmbedReport;
use crate::artefact::file::{Destination, write_atomically};
use crate::artefact::npy;
use crate::artefact::tensors::TensorFile;
use crate::artefact::vectors::{Embedded, write_arrow, write_csv, write_jsonl, write_parquet};
use crate::data::DataPlan;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::tensor::HostTensor;
use crate::vectors::MadeBy;

/// What `embed` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedPlan {
    /// A `model.safetensors`.
    pub model: PathBuf,
    /// The images; all of them are embedded, whatever the split.
    pub data: DataPlan,
    /// The file to write, or a pipe or device to write to; missing folders above it are made.
    pub out: PathBuf,
    /// Its form.
    pub format: EmbedFormat,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// The form of the written embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Of fewer images the decoded ones are not kept: decoding them again takes a second or two, and what is embedded in passing,
/// a single file for example, is often not seen again.
const FEWEST_KEPT: usize = 1000;

/// Embeds every image of the data set, in the order of their ids, and writes them.
pub fn embed(plan: &EmbedPlan, control: &Control) -> Result<EmbedReport> {
    // What stands in the way is said before the work, not after it.
    if let Destination::File(file) = Destination::of(&plan.out)?
        && let Some(folder) = file.parent()
    {
        fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, e))?;
    }
    let backend = Host::new(plan.threads).cpu();
    let (StoredNetwork { network, card }, hash) = StoredNetwork::load_hashed(&plan.model, &backend)?;
    let view = open_view(&plan.data, card.input(), FEWEST_KEPT, control)?;
    view.dataset.notices().into_iter().for_each(|message| control.emit(Event::Warning { message }));
    let items: Vec<u32> = (0..view.dataset.len() as u32).collect();
    let progress = |done, total| Event::Embed { done, total };
    let embeddings = embed_items(&backend, outputs(&network), &view, &items, progress, control)?;
    let milliseconds_per_image = embeddings.milliseconds_per_image();
    let tensor = HostTensor { shape: vec![items.len(), network.embedding_size()], data: embeddings.values };
    let embedding = network.embedding_size();
    let made_by = MadeBy { model: plan.model.display().to_string(), hash: Some(hash) };
    write(plan, tensor, &view.dataset, &made_by)?;
    Ok(EmbedReport {
        out: plan.out.display().to_string(),
        images: items.len(),
        embedding,
        milliseconds_per_image,
        left_out: view.dataset.broken().to_vec(),
    })
}

/// The id of every row, its class where there are labels, and the model.
fn names(ids: &[String], classes: Option<&[String]>, made_by: &MadeBy) -> serde_json::Value {
    let mut names = json!({ "ids": ids });
    if let Some(classes) = classes {
        names["classes"] = classes.into();
    }
    names["model"] = made_by.model[..].into();
    names["modelHash"] = made_by.hash.as_deref().into();
    names
}

fn write(
    EmbedPlan { out, format, .. }: &EmbedPlan,
    tensor: HostTensor,
    dataset: &Dataset,
    made_by: &MadeBy,
) -> Result<()> {
    let classes: Option<Vec<String>> =
        (0..dataset.len() as u32).map(|item| dataset.class_of(item).map(str::to_string)).collect();
    let (ids, classes) = (dataset.ids(), classes.as_deref());
    let table = Embedded { ids, classes, dimension: tensor.shape[1], rows: &tensor.data, made_by };
    let names = || names(ids, classes, made_by);
    match format {
        EmbedFormat::Csv => write_csv(out, &table),
        EmbedFormat::Jsonl => write_jsonl(out, &table),
        EmbedFormat::Parquet => write_parquet(out, &table),
        EmbedFormat::Arrow => write_arrow(out, &table),
        EmbedFormat::Npy => {
            npy::write(out, &tensor)?;
            if let Destination::Stream(_) = Destination::of(out)? {
                return Ok(());
            }
            let mut beside = out.as_os_str().to_os_string();
            beside.push(".ids.json");
            write_atomically(Path::new(&beside), |file| {
                serde_json::to_writer(file, &names()).map_err(std::io::Error::other)
            })
        }
        EmbedFormat::Safetensors => {
            TensorFile { document: names(), tensors: [("embeddings".to_string(), tensor)].into() }.save(out)
        }
    }
}
