//! Episodes of few-shot learning (Vinyals et al. 2016; Snell, Swersky, Zemel 2017, algorithm 1).
//!
//! An episode is `way` classes drawn without replacement and `shots + queries` different images of each. Its rows are in
//! the order that the prototypical loss and few-shot accuracy read: the supports class by class, then the queries class by
//! class,
//!
//! ```text
//! s_11 .. s_1K, s_21 .. s_2K, ..., s_N1 .. s_NK, q_11 .. q_1Q, ..., q_N1 .. q_NQ      N ways, K shots, Q queries
//! ```
//! Classes with fewer than K + Q images are never drawn.

use std::collections::BTreeMap;

use super::plan::EpisodePlan;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Draws episodes from labelled items.
#[derive(Clone, Debug)]
pub struct Episodes {
    /// The items of each class that is large enough, ascending, in the order of the labels.
    classes: Vec<Vec<u32>>,
    shape: EpisodePlan,
}

impl Episodes {
    /// Episodes of `shape` from (item, label) pairs. `option` names the option that the shape comes from.
    ///
    /// # Errors
    /// When a count is too small, or fewer than `way` classes have enough items.
    pub fn new(option: &str, pairs: impl IntoIterator<Item = (u32, u32)>, shape: &EpisodePlan) -> Result<Episodes> {
        for (name, least, value) in [("way", 2, shape.way), ("shots", 1, shape.shots), ("queries", 1, shape.queries)] {
            if value < least {
                return Err(Error::new(Code::InvalidOption, "the episode is too small")
                    .with_subject(format!("{option}.{name}"))
                    .with_values(format!("at least {least}"), value.to_string()));
            }
        }
        let mut classes: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (item, label) in pairs {
            classes.entry(label).or_default().push(item);
        }
        let (all, need) = (classes.len(), shape.shots + shape.queries);
        let mut classes: Vec<Vec<u32>> = classes.into_values().filter(|class| class.len() >= need).collect();
        classes.iter_mut().for_each(|class| class.sort_unstable());
        if classes.len() < shape.way {
            return Err(Error::new(Code::InvalidData, "there are too few images for such episodes")
                .with_subject(option)
                .with_values(
                    format!("{} classes of {need} images or more ({} + {})", shape.way, shape.shots, shape.queries),
                    format!("{} of the {all} classes", classes.len()),
                )
                .with_advice("use fewer ways, shots or queries, or a part with more images"));
        }
        Ok(Episodes { classes, shape: shape.clone() })
    }

    /// One episode.
    pub fn draw(&self, random: &mut Random) -> Vec<u32> {
        let EpisodePlan { way, shots, queries } = self.shape;
        let mut order: Vec<usize> = (0..self.classes.len()).collect();
        let mut episode = vec![0; way * (shots + queries)];
        for (k, &class) in pick(&mut order, way, random).iter().enumerate() {
            let mut items = self.classes[class].clone();
            let (support, query) = pick(&mut items, shots + queries, random).split_at(shots);
            episode[k * shots..][..shots].copy_from_slice(support);
            episode[way * shots + k * queries..][..queries].copy_from_slice(query);
        }
        episode
    }
}

/// The first `count` places of a random order of `values`: a Fisher-Yates shuffle, only as far as it is needed.
fn pick<'v, T>(values: &'v mut [T], count: usize, random: &mut Random) -> &'v [T] {
    for i in 0..count {
        let chosen = i + random.below(values.len() - i);
        values.swap(i, chosen);
    }
    &values[..count]
}
