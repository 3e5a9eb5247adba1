//! Queries with their nearest neighbours, to be looked at (Park et al. 2019, figure 4).

use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::PathBuf;

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use rkd_kernels::retrieval::nearest;
use serde::{Deserialize, Serialize};

use super::evaluate::{StoredNetwork, embed_items, open_view, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::stored::{SplitChoice, split_for_model};
use crate::data::DataPlan;
use crate::data::{Dataset, InputKind, Part};
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Which neighbours are wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NeighboursPlan {
    /// A `model.safetensors`.
    pub model: PathBuf,
    /// The images; image size and channels are the model's.
    pub data: DataPlan,
    /// How they are split.
    pub split: SplitChoice,
    /// The seed of the queries that are drawn.
    pub seed: u64,
    /// Where queries and neighbours come from.
    pub part: Part,
    /// How many queries: images drawn by the seed, each of another class while there are classes.
    pub queries: usize,
    /// Neighbours of each query.
    pub k: usize,
    /// CPU threads; 0: all cores.
    pub threads: usize,
}

/// One image, as the network sees it but for the normalisation.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Its path inside the source.
    pub id: String,
    /// The name of its class; empty without labels.
    pub class: String,
    /// A PNG file.
    pub png: Vec<u8>,
}

/// A query and what is nearest to it, nearest first.
#[derive(Clone, Debug)]
pub struct Neighbours {
    /// The query.
    pub query: Picture,
    /// The other images of the part that are nearest to it.
    pub neighbours: Vec<Picture>,
}

/// Embeds one part of the data and looks at the neighbours of a few queries. With the same data, seed and part the queries
/// are the same for every model.
///
/// # Errors
/// `ERR_INVALID_DATA` for a part of fewer than two images, `ERR_NON_FINITE`, and those of model and data.
pub fn neighbours(plan: &NeighboursPlan, control: &Control) -> Result<Vec<Neighbours>> {
    let host = Host::new(plan.threads);
    let backend = host.cpu();
    let StoredNetwork { network, card } = StoredNetwork::load(&plan.model, &backend)?;
    let view = open_view(&plan.data, card.input(), 0, control)?;
    let dataset = &view.dataset;
    if dataset.input_kind() == InputKind::Vectors {
        return Err(Error::new(Code::InvalidData, "vectors have no pictures to look at")
            .with_subject("data")
            .with_values("images", "a file of vectors")
            .with_advice("embed the vectors, and look their neighbours up by id"));
    }
    let of = (&card, plan.model.as_path());
    let split = split_for_model(of, dataset, &plan.data, &plan.split, plan.part, control)?;
    let items = split.items(plan.part);
    if items.len() < 2 {
        return Err(Error::new(Code::InvalidData, "there are no neighbours to look at")
            .with_values("at least 2 images in the part", items.len().to_string())
            .with_advice("choose another part, or a split that leaves images for it"));
    }
    let progress = |done, total| Event::Embed { done, total };
    let rows = embed_items(&backend, outputs(&network), &view, items, progress, control)?.values;
    if !rows.iter().all(|value| value.is_finite()) {
        return Err(Error::new(Code::NonFinite, "an embedding is not finite")
            .with_subject(plan.model.display().to_string())
            .with_advice("the network diverged in training; use another model"));
    }
    let queries = draw(dataset, items, plan);
    let count = |i: usize| if queries.contains(&i) { plan.k } else { 0 };
    let all =
        nearest(host.team(), &rows, items.len(), network.embedding_size(), count, |_, order: &[u32]| order.to_vec());
    let picture = |place: usize| picture(dataset, items[place]);
    queries
        .iter()
        .map(|&query| {
            let neighbours = all[query].iter().map(|&place| picture(place as usize)).collect::<Result<_>>()?;
            Ok(Neighbours { query: picture(query)?, neighbours })
        })
        .collect()
}

/// Places in `items`: the classes in a drawn order, of each the image that was drawn first, then each one's second, ...
fn draw(dataset: &Dataset, items: &[u32], plan: &NeighboursPlan) -> Vec<usize> {
    let mut random = Random::keyed(plan.seed, 0, 0, "neighbours");
    let mut places: Vec<usize> = (0..items.len()).collect();
    random.shuffle(&mut places);
    let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
    let mut turns: Vec<(usize, usize)> = Vec::with_capacity(places.len());
    for place in places {
        let turn = seen.entry(dataset.label(items[place])).or_default();
        turns.push((*turn, place));
        *turn += 1;
    }
    turns.sort_by_key(|&(turn, _)| turn); // stable: within a turn the drawn order stays
    turns.into_iter().take(plan.queries).map(|(_, place)| place).collect()
}

/// An image as a PNG file.
pub(super) fn picture(dataset: &Dataset, item: u32) -> Result<Picture> {
    let side = dataset.image_size() as u32;
    let color = if dataset.channels() == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut file = Cursor::new(Vec::new());
    let pixels = dataset.pixels(item);
    dataset.intact()?;
    PngEncoder::new(&mut file)
        .write_image(&pixels, side, side, color)
        .map_err(|e| Error::new(Code::Internal, "an image has no PNG form").with_source(e))?;
    Ok(Picture {
        id: dataset.id(item).into(),
        class: dataset.class_of(item).unwrap_or_default().into(),
        png: file.into_inner(),
    })
}
