//! Writing the embeddings of a whole data set to a file.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::embedded::{EmbedFormat, ids_beside, names};
use super::evaluate::{StoredNetwork, embed_items, open_shard_view, open_view, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::report::{EmbedReport, WrittenShard};
use super::shards::{Note, Origin, finished, instruction_set};
use crate::artefact::file::{Destination, write_atomically};
use crate::artefact::npy;
use crate::artefact::tensors::TensorFile;
use crate::artefact::vectors::{Embedded, write_arrow, write_csv, write_jsonl, write_parquet};
use crate::data::{DataPlan, Dataset, Labels, Shard, View};
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;
use crate::vectors::MadeBy;

/// What `embed` writes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedPlan {
    /// A `model.safetensors`.
    pub model: PathBuf,
    /// The images; all of them are embedded, whatever the split, or a shard of them.
    pub data: DataPlan,
    /// The file of all embeddings, or a pipe or device to write to; missing folders above it are made.
    pub out: PathBuf,
    /// The file to write: `out`, or that of the shard.
    pub file: PathBuf,
    /// The only shard of the images that is embedded.
    pub shard: Option<Shard>,
    /// Its form.
    pub format: EmbedFormat,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// Of fewer images the decoded ones are not kept: decoding them again takes a second or two, and what is embedded in passing,
/// a single file for example, is often not seen again.
const FEWEST_KEPT: usize = 1000;

/// Embeds every image of the data set, in the order of their ids, and writes them; of a shard its images alone. A shard that is
/// finished is left as it is.
///
/// # Errors
/// Those of model and data, `ERR_NON_FINITE`, those of writing; `ERR_OUTPUT_EXISTS` where a finished shard is of another model, of
/// other images or of another number of shards.
pub fn embed(plan: &EmbedPlan, control: &Control) -> Result<EmbedReport> {
    // What stands in the way is said before the work, not after it.
    if let Destination::File(file) = Destination::of(&plan.file)?
        && let Some(folder) = file.parent()
    {
        fs::create_dir_all(folder).map_err(|e| Error::io("making the folder", folder, e))?;
    }
    let backend = Host::new(plan.threads).cpu();
    let (StoredNetwork { network, card }, hash) = StoredNetwork::load_hashed(&plan.model, &backend)?;
    let embedding = network.embedding_size();
    let made_by = MadeBy { model: plan.model.display().to_string(), hash: Some(hash.clone()) };
    let (mut origin, mut before) = (None, None);
    let view = match plan.shard {
        None => Some(open_view(&plan.data, card.input(), FEWEST_KEPT, control)?),
        Some(shard) => {
            let mut is_wanted = |data: &str| {
                let own = origin.insert(Origin {
                    version: env!("CARGO_PKG_VERSION").into(),
                    model_hash: hash.clone(),
                    data: data.into(),
                    format: plan.format,
                    labelled: plan.data.labels == Labels::Classes,
                    embedding,
                });
                before = finished(&plan.out, shard, own, control)?;
                Ok(before.is_none())
            };
            open_shard_view(&plan.data, shard, &mut is_wanted, card.input(), FEWEST_KEPT, control)?
        }
    };
    let report = |images, milliseconds_per_image, left_out| EmbedReport {
        out: plan.file.display().to_string(),
        images,
        embedding,
        milliseconds_per_image,
        left_out,
        shard: plan.shard.map(|Shard { index, count }| WrittenShard { index, count, skipped: view.is_none() }),
    };
    let Some(view @ View { dataset, .. }) = &view else {
        let Note { images, milliseconds_per_image, left_out, .. } =
            before.ok_or_else(|| Error::new(Code::Internal, "a shard was neither finished nor embedded"))?;
        return Ok(report(images, milliseconds_per_image, left_out));
    };
    dataset.notices().into_iter().for_each(|message| control.emit(Event::Warning { message }));
    let items: Vec<u32> = (0..dataset.len() as u32).collect();
    let progress = |done, total| Event::Embed { done, total };
    let embeddings = embed_items(&backend, outputs(&network), view, &items, progress, control)?;
    let milliseconds_per_image = embeddings.milliseconds_per_image();
    let tensor = HostTensor { shape: vec![items.len(), embedding], data: embeddings.values };
    write(plan, tensor, dataset, &made_by)?;
    let left_out = dataset.broken().to_vec();
    if let Some((shard, origin)) = plan.shard.zip(origin) {
        let note = Note {
            shard,
            origin,
            model: made_by.model,
            instruction_set: instruction_set()?,
            images: items.len(),
            milliseconds_per_image,
            left_out: left_out.clone(),
            hashes: Vec::new(),
        };
        note.write(&plan.file)?;
    }
    Ok(report(items.len(), milliseconds_per_image, left_out))
}

fn write(
    EmbedPlan { data, file: out, format, .. }: &EmbedPlan,
    tensor: HostTensor,
    dataset: &Dataset,
    made_by: &MadeBy,
) -> Result<()> {
    // A shard without a usable image has no class, and the columns of the others.
    let classes: Option<Vec<String>> = match dataset.is_empty() {
        true => (data.labels == Labels::Classes).then(Vec::new),
        false => (0..dataset.len() as u32).map(|item| dataset.class_of(item).map(str::to_string)).collect(),
    };
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
            write_atomically(&ids_beside(out), |file| {
                serde_json::to_writer(file, &names()).map_err(std::io::Error::other)
            })
        }
        EmbedFormat::Safetensors => {
            TensorFile { document: names(), tensors: [("embeddings".to_string(), tensor)].into() }.save(out)
        }
    }
}
