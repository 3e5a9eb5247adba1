//! What a report shows of one part of the data: a sample of its images, small, with the embeddings of every network.

use std::collections::BTreeMap;
use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, GrayImage, RgbImage};

use super::evaluate::{StoredNetwork, embed_items, outputs};
use super::event::{Control, Event};
use super::host::Host;
use super::neighbours::{Picture, picture};
use super::stored::{EvaluatePlan, Measuring};
use crate::data::{Dataset, InputKind};
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Images of a larger side are shown as JPEGs of this one.
const SIDE: u32 = 96;
const QUALITY: u8 = 80;

/// Of every class at least so many images are taken, and rather fewer classes: right neighbours are of the same class.
const FEWEST_OF_CLASS: usize = 10;

/// A sample of a part.
pub struct Look {
    /// The images, as the student sees them; of vectors, and of what the student's session shows, `png` is empty.
    pub images: Vec<Picture>,
    /// `[images, d]`, row-major.
    pub student: Vec<f32>,
    /// Of each teacher of the plan.
    pub teachers: Vec<Vec<f32>>,
    /// Images of the whole part.
    pub of: usize,
}

/// Looks at `most` images of the part of `plan`, or at all where there are fewer, by the stored model and the teachers.
///
/// # Errors
/// Those of model, teachers and data; `ERR_NON_FINITE`, `ERR_CANCELLED`.
pub fn look(plan: &EvaluatePlan, most: usize, control: &Control) -> Result<Look> {
    let host = Host::new(plan.threads);
    let StoredNetwork { network, card } = StoredNetwork::load(&plan.model, &host.cpu())?;
    // What a user should know has been told when the run was measured.
    let measuring = Measuring::open_telling(plan, &host, &card, control, |_| {})?;
    let Measuring { backend, view, .. } = &measuring;
    let all = measuring.items();
    let items = sample(&view.dataset, all, most, plan.seed);
    let progress = |done, total| Event::Embed { done, total };
    let student = embed_items(backend, outputs(&network), view, &items, progress, control)?.values;
    let teachers = measuring.said_of(&items, control)?.into_iter().map(|said| said.values).collect();
    let images = items.iter().map(|&item| thumbnail(&view.dataset, item)).collect::<Result<_>>()?;
    Ok(Look { images, student, teachers, of: all.len() })
}

/// At most `most` of `items`, the same for every network: drawn by the seed; with labels class by class, as many of each.
pub(super) fn sample(dataset: &Dataset, items: &[u32], most: usize, seed: u64) -> Vec<u32> {
    if items.len() <= most {
        return items.to_vec();
    }
    let mut drawn = items.to_vec();
    let mut random = Random::keyed(seed, 0, 0, "look");
    random.shuffle(&mut drawn);
    if dataset.is_labelled() {
        let mut classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        drawn.iter().for_each(|&item| classes.entry(dataset.label(item)).or_default().push(item));
        let each = (most / classes.len()).max(FEWEST_OF_CLASS);
        let mut order: Vec<Vec<u32>> = classes.into_values().collect();
        random.shuffle(&mut order);
        drawn = order.into_iter().flat_map(|class| class.into_iter().take(each)).collect();
    }
    drawn.truncate(most);
    drawn.sort_unstable();
    drawn
}

/// An image without its pixels.
pub(super) fn named(dataset: &Dataset, item: u32) -> Picture {
    Picture { id: dataset.id(item).into(), class: dataset.class_of(item).unwrap_or_default().into(), png: Vec::new() }
}

/// A small one as it is, a PNG; a large one made smaller, a JPEG; of a vector its name.
fn thumbnail(dataset: &Dataset, item: u32) -> Result<Picture> {
    if dataset.input_kind() == InputKind::Vectors {
        return Ok(named(dataset, item));
    }
    let side = dataset.image_size() as u32;
    if side <= SIDE {
        return picture(dataset, item);
    }
    let pixels = dataset.pixels(item);
    dataset.intact()?;
    let image = match dataset.channels() {
        1 => GrayImage::from_raw(side, side, pixels).map(DynamicImage::from),
        _ => RgbImage::from_raw(side, side, pixels).map(DynamicImage::from),
    };
    let mut file = Cursor::new(Vec::new());
    let written = image
        .map(|image| image.thumbnail(SIDE, SIDE).write_with_encoder(JpegEncoder::new_with_quality(&mut file, QUALITY)));
    match written {
        Some(Ok(())) => Ok(Picture { png: file.into_inner(), ..named(dataset, item) }),
        Some(Err(error)) => Err(Error::new(Code::Internal, "an image has no JPEG form").with_source(error)),
        None => Err(Error::new(Code::Internal, "an image has other pixels than its size says")),
    }
}
