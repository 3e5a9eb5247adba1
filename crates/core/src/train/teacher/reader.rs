//! How a teacher's features are read: live, or cached.

use std::path::Path;
use std::time::Duration;

use super::spec::{CACHE_LIMIT, Teacher, TeacherFeatures, numbers_of};
use super::store::Store;
use crate::data::{Batch, EvaluationBatches, View};
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Feature, FeatureMap, Precision};
use crate::ranks::Ranks;
use crate::tensor::Matrix;
use crate::train::evaluate::{BATCH, Embeddings, Images, features_of, share_of_images};
use crate::train::event::{Control, Event};

/// Features of more bytes than this, as maps may have, stay in memory.
const STORE_LIMIT: usize = 1 << 30;

/// Images of a larger side pass in smaller batches: what is between the layers of a large teacher is what needs memory.
pub(super) const LARGE: usize = 96;

/// Images after which what was computed may be kept.
const KEEP_EVERY: usize = 2048;

/// A teacher and the way in which its features are read.
pub struct TeacherReader<B: Backend> {
    /// The teacher.
    pub teacher: Box<dyn Teacher<B>>,
    /// The images as it wants them.
    pub view: View,
    /// Which further view of a batch that is; `None`: the student's.
    pub further: Option<usize>,
    read: Vec<Feature>,
    /// The features of all training images, where they are computed once.
    cache: Option<FeatureCache>,
}

/// What losses read of a batch: on the device, or on the host where it comes from a cache.
pub struct TeacherBatch<T> {
    /// On the device, in the pieces of the batch.
    pub device: FeatureMap<Vec<T>>,
    /// On the host.
    pub host: FeatureMap<Matrix>,
}

impl<T> Default for TeacherBatch<T> {
    fn default() -> Self {
        TeacherBatch { device: FeatureMap::new(), host: FeatureMap::new() }
    }
}

impl<B: Backend> TeacherReader<B> {
    /// Reads the features `read` of `teacher` as `way` says. If they are computed once, then now, for all images `train`, as
    /// they are and, if training `mirrors`, mirrored: each of `ranks`, all of which do so, asks the teacher about a share.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` if they would need more memory than [`CACHE_LIMIT`].
    #[allow(clippy::too_many_arguments)] // Two of them are the images, two are what happens to them.
    pub fn open(
        ranks: &Ranks,
        backend: &B,
        teacher: Box<dyn Teacher<B>>,
        way: TeacherFeatures,
        read: Vec<Feature>,
        view: View,
        folder: &Path,
        train: &[u32],
        mirrors: bool,
        control: &Control,
    ) -> Result<Self> {
        let asked = Asked { ranks, backend, teacher: &*teacher, view: &view, folder };
        let cache = match way {
            TeacherFeatures::Cached if !read.is_empty() => {
                Some(FeatureCache::compute(&asked, &read, train, mirrors, control)?)
            }
            _ => None,
        };
        Ok(TeacherReader { teacher, view, further: None, read, cache })
    }

    /// Whether it looks at every batch.
    pub fn is_live(&self) -> bool {
        self.cache.is_none() && !self.read.is_empty()
    }

    /// What losses read of the images that a batch has here: of their `pieces` in the teacher's view, or of the items as
    /// they were.
    pub fn features(
        &self,
        batch: &Batch,
        pieces: impl FnOnce() -> Result<Vec<B::Tensor>>,
    ) -> Result<TeacherBatch<B::Tensor>> {
        let mut features = TeacherBatch::default();
        match &self.cache {
            _ if self.read.is_empty() => {}
            Some(cache) => features.host = cache.look_up(batch)?,
            None => {
                let mut seen = 0;
                for images in pieces()? {
                    let items = &batch.own_items()[seen..seen + B::shape(&images)[0]];
                    seen += items.len();
                    let images = Images { pixels: &images, items };
                    for (feature, piece) in self.teacher.features(&images, &self.read)? {
                        features.device.entry(feature).or_default().push(piece);
                    }
                }
            }
        }
        Ok(features)
    }
}

/// Features of all training images, computed once.
struct FeatureCache {
    features: FeatureMap<Cached>,
    /// The row of each image in the cache; those that are not trained on have none.
    rows: Vec<Option<u32>>,
    /// So many rows later comes the mirrored image's.
    to_mirrored: usize,
}

/// One feature of all training images.
struct Cached {
    /// `[1, d]` or `[1, h, w, c]`.
    shape: Vec<usize>,
    /// Of the images as they are, then of the mirrored ones if training mirrors.
    data: Vec<f32>,
}

impl FeatureCache {
    fn compute<B: Backend>(
        asked: &Asked<'_, B>,
        read: &[Feature],
        train: &[u32],
        mirrors: bool,
        control: &Control,
    ) -> Result<FeatureCache> {
        let teacher = asked.teacher;
        let cached = |feature: &Feature| {
            let shape = teacher.shapes().get(feature).cloned().unwrap_or_default();
            (feature.clone(), Cached { shape, data: Vec::new() })
        };
        let mut features: FeatureMap<Cached> = read.iter().map(cached).collect();
        // A teacher without pixels says the same of the mirrored image.
        let sides: &[bool] = if mirrors && teacher.input().is_some() { &[false, true] } else { &[false] };
        let images = train.len() * sides.len();
        check_memory(features.values().map(|cached| cached.length() * images * size_of::<f32>()).sum())?;
        for (side, &mirrored) in (0..).zip(sides) {
            let before = side * train.len() as u64;
            let progress = |done| Event::TeacherFeatures { done: before + done, total: images as u64 };
            let (mut rows, _) = asked.features(read, train, mirrored, progress, control)?;
            for (feature, Cached { data, .. }) in &mut features {
                let rows = rows.remove(feature).unwrap_or_default();
                match data.is_empty() {
                    true => *data = rows,
                    false => data.extend(rows),
                }
            }
        }
        let mut rows = vec![None; asked.view.dataset.len()];
        train.iter().zip(0..).for_each(|(&item, row)| rows[item as usize] = Some(row));
        Ok(FeatureCache { features, rows, to_mirrored: if sides.len() > 1 { train.len() } else { 0 } })
    }

    fn look_up(&self, batch: &Batch) -> Result<FeatureMap<Matrix>> {
        let features = self.features.iter();
        features.map(|(feature, cached)| Ok((feature.clone(), self.rows(feature, cached, batch)?))).collect()
    }

    fn rows(&self, feature: &Feature, cached: &Cached, batch: &Batch) -> Result<Matrix> {
        let length = cached.length();
        let mut data = Vec::with_capacity(batch.rows.len() * length);
        for (&item, &mirrored) in batch.own_items().iter().zip(&batch.mirrored) {
            let row = self.rows[item as usize].ok_or_else(|| {
                Error::new(Code::Internal, format!("item {item} is not among the teacher's features"))
            })?;
            let row = row as usize + if mirrored { self.to_mirrored } else { 0 };
            data.extend_from_slice(&cached.data[row * length..][..length]);
        }
        let mut shape = cached.shape.clone();
        shape[0] = batch.rows.len();
        Matrix::tensor(&format!("the teacher's {}", feature.name()), &data, &shape)
    }
}

/// A teacher that is asked about images without augmentation, by whom, and where its answers are kept.
struct Asked<'a, B: Backend> {
    /// They ask about the same images.
    ranks: &'a Ranks,
    backend: &'a B,
    teacher: &'a dyn Teacher<B>,
    view: &'a View,
    /// The cache's folder.
    folder: &'a Path,
}

impl<B: Backend> Asked<'_, B> {
    /// The features `names` of `items`, row by row, and the time that the teacher takes for all of them: what is on disk is
    /// read, the rest computed and kept there. `progress` makes the event of so many images done.
    fn features(
        &self,
        names: &[Feature],
        items: &[u32],
        mirrored: bool,
        progress: impl Fn(u64) -> Event,
        control: &Control,
    ) -> Result<(FeatureMap<Vec<f32>>, Duration)> {
        let View { dataset, normalization } = self.view;
        let forward = |images: &Images<'_, B::Tensor>| self.teacher.features(images, names);
        let size = if dataset.image_size() > LARGE { BATCH / 4 } else { BATCH };
        let whole = |mut features: FeatureMap<Vec<f32>>| {
            let mut all = FeatureMap::new();
            for name in names {
                let mine = features.remove(name).unwrap_or_default();
                all.insert(name.clone(), self.ranks.gather_numbers(mine)?);
            }
            Ok::<_, Error>(all)
        };
        // All ranks are as far as this one, more or less.
        let compute = |items: &[u32], before: u64| {
            let mine = &items[share_of_images(items.len(), self.ranks)];
            let batches = EvaluationBatches::new(dataset, mine, size, normalization).mirrored(mirrored);
            let all = |done: u64| (done * self.ranks.size() as u64).min(items.len() as u64);
            let (features, time) =
                features_of(self.backend, forward, batches, |done, _| progress(before + all(done)), control)?;
            dataset.intact()?;
            let times = self.ranks.gather_values(&time.as_secs_f64())?;
            Ok((whole(features)?, Duration::try_from_secs_f64(times.iter().sum()).unwrap_or_default()))
        };
        let length = |names: &[Feature]| numbers_of(names, self.teacher.shapes());
        if self.teacher.input().is_none() || length(names) * items.len() * size_of::<f32>() > STORE_LIMIT {
            return compute(items, 0);
        }
        let mut about = format!("{} {} {mirrored}", self.teacher.hash(), dataset.pixels_key());
        if self.backend.precision() != Precision::Float32 {
            about += &format!(" {}", self.backend.precision());
        }
        let store = |name: &Feature| {
            Store::open(self.folder, &format!("{about} {}", name.name()), length(std::slice::from_ref(name)))
        };
        let mut stores: Vec<Store> = names.iter().map(store).collect();
        let lacking: Vec<u32> = stores.iter().flat_map(|store| store.missing(items)).collect();
        // Another machine may lack others.
        let mut missing = self.ranks.gather_values(&lacking)?.concat();
        missing.sort_unstable();
        missing.dedup();
        let mut done = (items.len() - missing.len()) as u64;
        let keep = |stores: &mut [Store]| {
            for error in
                stores.iter_mut().filter(|_| self.ranks.is_first_on_host()).filter_map(|store| store.save().err())
            {
                control.emit(Event::Warning { message: format!("The teacher's features were not kept: {error}") });
            }
        };
        for block in missing.chunks(KEEP_EVERY * self.ranks.size()) {
            // Who stops a run has not asked in vain.
            let (features, time) = compute(block, done).inspect_err(|_| keep(&mut stores))?;
            for (store, name) in stores.iter_mut().zip(names) {
                store.put(block, features.get(name).map_or(&[], Vec::as_slice), time);
            }
            done += block.len() as u64;
            if stores.iter().any(Store::has_doubled) {
                keep(&mut stores);
            }
        }
        keep(&mut stores);
        let time = stores.iter().map(Store::time_per_image).max().unwrap_or_default() * items.len() as u32;
        let rows = |store: &Store| items.iter().filter_map(|&item| store.row(item)).flatten().copied().collect();
        Ok((names.iter().cloned().zip(stores.iter().map(rows)).collect(), time))
    }
}

/// The embeddings of `items`, which may be others than those of other ranks, by `teacher`, and its logits where it has a
/// classifier.
///
/// # Errors
/// Those of the teacher; `ERR_NON_FINITE` for an embedding that is not finite.
pub(in crate::train) fn embed_teacher<B: Backend>(
    backend: &B,
    teacher: &dyn Teacher<B>,
    view: &View,
    folder: &Path,
    items: &[u32],
    control: &Control,
) -> Result<Embeddings> {
    let mut names = vec![Feature::Embedding, Feature::Logits];
    names.retain(|feature| teacher.shapes().contains_key(feature));
    let total = items.len() as u64;
    let progress = |done| Event::Embed { done, total };
    let asked = Asked { ranks: &Ranks::one(), backend, teacher, view, folder };
    let (features, time) = asked.features(&names, items, false, progress, control)?;
    Embeddings::new(features, items, &view.dataset, time)
}

impl Cached {
    /// Numbers of one image.
    fn length(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

fn check_memory(bytes: usize) -> Result<()> {
    if bytes <= CACHE_LIMIT {
        return Ok(());
    }
    let gigabytes = |bytes: usize| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    Err(Error::new(Code::InvalidOption, "the teacher's features of all training images do not fit into memory")
        .with_subject("teacherFeatures")
        .with_values(format!("at most {}", gigabytes(CACHE_LIMIT)), gigabytes(bytes))
        .with_advice("use live features, or point the losses at smaller ones"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_too_large_is_refused() {
        check_memory(CACHE_LIMIT).unwrap();
        let message = check_memory(6 << 30).unwrap_err().to_string();
        assert!(message.contains("expected at most 4.0 GiB, received 6.0 GiB. Use live features"), "{message}");
    }
}
