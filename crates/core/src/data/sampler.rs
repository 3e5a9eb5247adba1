//! Which images make which batch: a pure function of (seed, epoch, batch).
//!
//! *Class-balanced* (`per_class = m`), as in the paper's code: shuffle all classes, walk through them and take
//! min(m, class size) random images of each without replacement, until the batch is full; cut to exactly `size`. A last
//! class may so be cut short: size 128 with m = 5 is 25 full classes and 3 images of a 26th.
//!
//! *Plain*: the items are shuffled, again for each round through them; a batch that reaches over the end of a round goes on
//! with the next round's items, leaving out those it has.
//!
//! *Episodes* of few-shot learning: see [`super::episode`]. Every batch of all kinds has `size` different images.

use std::collections::{BTreeMap, HashSet};

use super::dataset::Dataset;
use super::episode::Episodes;
use super::plan::BatchPlan;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Composes batches. See the module's text.
#[derive(Clone, Debug)]
pub struct BatchSampler {
    /// All items, ascending.
    items: Vec<u32>,
    /// The items of each class, ascending, in the order of the labels.
    by_class: Vec<Vec<u32>>,
    size: usize,
    per_class: Option<usize>,
    episodes: Option<Episodes>,
    batches: u64,
    seed: u64,
}

impl BatchSampler {
    /// Batches of the images `items` of `dataset`. `steps_per_epoch`: see [`crate::train::plan::Plan::steps_per_epoch`].
    ///
    /// # Errors
    /// When a count is 0 or a batch cannot be filled.
    pub fn new(
        dataset: &Dataset,
        items: &[u32],
        plan: &BatchPlan,
        steps_per_epoch: Option<u64>,
        seed: u64,
    ) -> Result<BatchSampler> {
        Self::from_labels(items.iter().map(|&item| (item, dataset.label(item))), plan, steps_per_epoch, seed)
    }

    /// As [`BatchSampler::new`], of (item, label) pairs.
    ///
    /// # Errors
    /// As [`BatchSampler::new`].
    pub fn from_labels(
        pairs: impl IntoIterator<Item = (u32, u32)>,
        plan: &BatchPlan,
        steps_per_epoch: Option<u64>,
        seed: u64,
    ) -> Result<BatchSampler> {
        let pairs: Vec<(u32, u32)> = pairs.into_iter().collect();
        let mut classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut items = Vec::new();
        for &(item, label) in &pairs {
            items.push(item);
            classes.entry(label).or_default().push(item);
        }
        items.sort_unstable();
        let mut by_class: Vec<Vec<u32>> = classes.into_values().collect();
        by_class.iter_mut().for_each(|class| class.sort_unstable());
        check(plan, &items, &by_class, steps_per_epoch)?;
        let episodes = plan.episode.as_ref().map(|shape| Episodes::new("batch.episode", pairs, shape)).transpose()?;
        let batches = steps_per_epoch.unwrap_or(items.len().div_ceil(plan.size) as u64);
        Ok(BatchSampler { items, by_class, size: plan.size, per_class: plan.per_class, episodes, batches, seed })
    }

    /// Number of batches of an epoch.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Images of a batch.
    pub fn size(&self) -> usize {
        self.size
    }

    /// All batches of `epoch`.
    pub fn epoch(&self, epoch: u64) -> Vec<Vec<u32>> {
        let random = |batch| Random::keyed(self.seed, epoch, batch, "batch");
        match (&self.episodes, self.per_class) {
            (Some(episodes), _) => (0..self.batches).map(|batch| episodes.draw(&mut random(batch))).collect(),
            (None, Some(per_class)) => (0..self.batches).map(|batch| self.balanced(epoch, batch, per_class)).collect(),
            (None, None) => self.plain(epoch),
        }
    }

    fn balanced(&self, epoch: u64, batch: u64, per_class: usize) -> Vec<u32> {
        let mut random = Random::keyed(self.seed, epoch, batch, "batch");
        let mut classes: Vec<usize> = (0..self.by_class.len()).collect();
        let mut out = Vec::with_capacity(self.size + per_class);
        for taken in 0..classes.len() {
            // A Fisher-Yates shuffle, only as far as it is needed.
            let pick = taken + random.below(classes.len() - taken);
            classes.swap(taken, pick);
            let mut class = self.by_class[classes[taken]].clone();
            for i in 0..per_class.min(class.len()) {
                let pick = i + random.below(class.len() - i);
                class.swap(i, pick);
                out.push(class[i]);
            }
            if out.len() >= self.size {
                break;
            }
        }
        out.truncate(self.size);
        out
    }

    fn plain(&self, epoch: u64) -> Vec<Vec<u32>> {
        let mut rounds = 0;
        let mut round = Vec::new();
        let mut batches = Vec::with_capacity(self.batches as usize);
        for _ in 0..self.batches {
            // `round` is used from its end.
            let mut batch: Vec<u32> = round.split_off(round.len() - self.size.min(round.len()));
            if batch.len() < self.size {
                let had: HashSet<u32> = batch.iter().copied().collect();
                round = self.items.clone();
                Random::keyed(self.seed, epoch, rounds, "batch").shuffle(&mut round);
                rounds += 1;
                let mut rest = Vec::new();
                while batch.len() < self.size {
                    let item = round.pop().expect("a batch is no larger than the part");
                    if had.contains(&item) { rest.push(item) } else { batch.push(item) }
                }
                // What was left out comes first in the next batch.
                round.extend(rest);
            }
            batches.push(batch);
        }
        batches
    }
}

fn check(plan: &BatchPlan, items: &[u32], by_class: &[Vec<u32>], steps_per_epoch: Option<u64>) -> Result<()> {
    let invalid = |option: &str, expected: String, received: usize, advice: &str| {
        Err(Error::new(Code::InvalidOption, "the batch cannot be composed")
            .with_subject(option)
            .with_values(expected, received.to_string())
            .with_advice(advice))
    };
    if plan.size == 0 {
        return invalid("batch.size", "at least 1 image".into(), 0, "give the number of images of a batch");
    }
    if plan.per_class == Some(0) {
        return invalid(
            "batch.perClass",
            "at least 1 image".into(),
            0,
            "leave it out to draw images without regard to class",
        );
    }
    if steps_per_epoch == Some(0) {
        return invalid("stepsPerEpoch", "at least 1 batch".into(), 0, "leave it out to go once through the images");
    }
    if let Some(episode) = plan.episode.as_ref().filter(|episode| episode.images() != plan.size) {
        let expected = format!("{} images, those of the episode", episode.images());
        return invalid("batch.size", expected, plan.size, "leave the size out, it follows from the episode");
    }
    if let (Some(per_class), None) = (plan.per_class, &plan.episode) {
        let most: usize = by_class.iter().map(|class| class.len().min(per_class)).sum();
        if most < plan.size {
            let classes = by_class.len();
            let expected = format!("at most {most} ({classes} training classes, up to {per_class} images of each)");
            return invalid("batch.size", expected, plan.size, "make the batch smaller or batch.perClass larger");
        }
    }
    if plan.size > items.len() {
        let expected = format!("at most the {} images of the train part", items.len());
        return invalid("batch.size", expected, plan.size, "make the batch smaller");
    }
    Ok(())
}
