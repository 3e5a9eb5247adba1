//! From a source to its plan: what it is, by its content, and the defaults of its kind.

use std::path::PathBuf;

use serde::Serialize;

use super::{AugmentOption, Channels, DataOption, DataOptions, Shares, SplitOption};
use crate::data::survey::survey_of;
use crate::data::{
    AugmentSpec, DataKind, DataPlan, Labels, Part, Source, SplitPlan, Stop, Survey, TrainingPart, is_pattern,
    splits_by_classes, training_part,
};
use crate::error::{Code, Error, Result};
use crate::input::{absolute, invalid, read, write};
use crate::vectors::VectorOptions;

/// Image size and channels that a stored network takes.
pub type Pixels = (usize, usize);

/// What a data source holds by its names and lists, and the plan of its defaults.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct DataSurvey {
    /// What the options and its defaults make of it.
    pub data: DataPlan,
    /// What is in it.
    #[serde(flatten)]
    pub found: Survey,
}

/// What a source is and what is missing in it, without decoding an image, with the plan of its defaults.
///
/// # Errors
/// Those of the options; when the source cannot be read or recognised, or has no images; when stopped.
pub fn survey(DataOption(options): &DataOption, stop: Stop<'_>) -> Result<DataSurvey> {
    let (plan, source, found) = resolve(options, None, stop)?;
    let found = match found {
        Some(found) => found,
        None => survey_of(&source, Some(plan.labels), plan.rotations, stop)?,
    };
    Ok(DataSurvey { data: plan, found })
}

impl DataOption {
    /// The plan. `input`, what a stored model takes, comes before the source's own defaults: a teacher and its student see
    /// the same pixels. What was listed to find out the kind is kept for [`Dataset::open`](crate::data::Dataset::open).
    pub(super) fn resolve(&self, input: Option<Pixels>, stop: Stop<'_>) -> Result<DataPlan> {
        self.look(input, stop).map(ListedData::pass_on)
    }

    /// As [`resolve`](Self::resolve), with the source at hand for more questions.
    pub(super) fn look(&self, input: Option<Pixels>, stop: Stop<'_>) -> Result<ListedData> {
        resolve(&self.0, input, stop).map(|(plan, source, found)| ListedData { plan, source, found })
    }
}

/// A source whose plan is known.
pub(super) struct ListedData {
    /// Its plan.
    pub plan: DataPlan,
    source: Source,
    found: Option<Survey>,
}

impl ListedData {
    /// What there is to train on, without decoding; see [`training_part`]. Nothing where the source cannot be read, which opening
    /// it says better.
    pub fn training_part(&mut self, stop: Stop<'_>) -> Option<TrainingPart> {
        if self.found.is_none() {
            self.found = survey_of(&self.source, Some(self.plan.labels), false, stop).ok();
        }
        self.found.as_ref().map(|found| training_part(&self.plan, found))
    }

    /// The plan. What was listed is kept for [`Dataset::open`](crate::data::Dataset::open).
    pub fn pass_on(self) -> DataPlan {
        self.source.pass_on(&self.plan);
        self.plan
    }
}

impl DataOptions {
    /// Checks that files are there.
    pub(super) fn check(&self) -> Result<()> {
        for source in std::iter::once(&self.source).chain(self.more.iter().flatten()) {
            let path = source.absolute();
            if !is_glyphs(&source.0) && !path.exists() && !is_pattern(&path) {
                return Err(Error::new(Code::NotFound, "there is no such folder or file")
                    .with_subject(&source.0)
                    .with_advice("give an existing folder, archive or manifest, or glyphs for the embedded data set"));
            }
        }
        if let (false, Some((name, value))) = (is_glyphs(&self.source.0), self.settings().next()) {
            let expected = "nothing with a source that is not glyphs";
            return Err(invalid(format!("data.{name}"), expected, value.to_string()));
        }
        if self.kind != Some(DataKind::Vectors) {
            let (size, channels) = (self.image_size.map(usize::from), self.channels.map(|Channels(channels)| channels));
            if let Some(size) = size.filter(|&size| size < 8) {
                let expected = "a whole number at least 8 and at most 1024";
                return Err(invalid("data.imageSize", expected, size.to_string()));
            }
            if let Some(channels) = channels.filter(|channels| ![1, 3].contains(channels)) {
                return Err(invalid("data.channels", "1 or 3", channels.to_string()));
            }
        }
        if self.labels == Some(Labels::None) {
            if self.rotations == Some(true) {
                let expected = "false with labels \"none\"";
                return Err(invalid("data.rotations", expected, "true").with_advice("each turn is a class of its own"));
            }
            if let Some(split @ (SplitPlan::Classes { .. } | SplitPlan::Lists { .. })) = self.exact_split() {
                let expected = "a split by images, or the source's own, with labels \"none\"";
                let kind = if split.lists().is_empty() { "classes" } else { "lists" };
                return Err(invalid("data.split.kind", expected, format!("{kind:?}"))
                    .with_advice("for example { kind: \"images\", validation: 0.1, test: 0.1 }"));
            }
        }
        for list in self.exact_split().into_iter().flat_map(SplitPlan::lists) {
            if !absolute(list).exists() {
                return Err(Error::new(Code::NotFound, "there is no such list")
                    .with_subject(list.display().to_string())
                    .with_advice("give a text file of class names, one a line"));
            }
        }
        Ok(())
    }

    /// The split, where its kind is given.
    fn exact_split(&self) -> Option<&SplitPlan> {
        match &self.split {
            Some(SplitOption::Exactly(split)) => Some(split),
            _ => None,
        }
    }

    /// The source as the plan names it.
    fn source(&self) -> String {
        if !is_glyphs(&self.source.0) {
            return self.source.absolute().display().to_string();
        }
        self.settings().fold(self.source.0.clone(), |source, (name, value)| {
            format!("{source}{}{name}={value}", if source.contains(':') { ',' } else { ':' })
        })
    }

    /// Those of the glyphs that are given.
    fn settings(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let classes = self.classes.map(|count| ("classes", count.0));
        let writers = self.writers.map(|count| ("writers", count.0));
        [classes, writers, self.seed.map(|seed| ("seed", seed.0))].into_iter().flatten()
    }
}

fn is_glyphs(source: &str) -> bool {
    source == "glyphs" || source.starts_with("glyphs:")
}

/// The plan, the source and, where its default split had to be found, what is in it.
fn resolve(options: &DataOptions, input: Option<Pixels>, stop: Stop<'_>) -> Result<(DataPlan, Source, Option<Survey>)> {
    options.check()?;
    let more = options.more.iter().flatten().map(|path| path.absolute().display().to_string()).collect();
    let mut plan = DataPlan {
        kind: options.kind.filter(|kind| *kind == DataKind::Vectors).unwrap_or_default(),
        source: options.source(),
        more,
        image_size: 0,
        channels: 0,
        vectors: options.vectors.clone().flatten().map(|given| VectorOptions { ids: given.ids.map(absolute), ..given }),
        labels: Labels::Classes,
        rotations: options.rotations.unwrap_or(false),
        split: SplitPlan::Classes { validation: 0.1, test: 0.2 },
        augment: AugmentSpec::default(),
        cache: options.cache.as_ref().map_or_else(default_cache, |cache| cache.absolute()),
    };
    let source = Source::detect(&plan, stop)?;
    plan.kind = source.data_kind();
    if let Some(dimension) = source.dimension() {
        check_vectors(options, dimension, &source)?;
        plan.vectors.get_or_insert_default();
        (plan.image_size, plan.channels) = (1, dimension);
    }
    if let Some(wanted) = options.kind.filter(|wanted| *wanted != plan.kind) {
        let word = |kind| serde_json::to_value(kind).unwrap_or_default();
        return Err(Error::new(Code::InvalidData, "the source is of another kind")
            .with_subject(&options.source.0)
            .with_values(word(wanted).to_string(), format!("{} ({})", word(plan.kind), source.reason))
            .with_advice("give it as a path alone, and its kind is found out"));
    }
    let (image_size, channels) = input.filter(|_| plan.kind != DataKind::Vectors).unwrap_or(match plan.kind {
        DataKind::Vectors => (plan.image_size, plan.channels),
        DataKind::Glyphs | DataKind::Omniglot | DataKind::Idx => (28, 1),
        DataKind::Cifar => (32, 3),
        DataKind::Images => (64, 3),
    });
    plan.image_size = options.image_size.map_or(image_size, Into::into);
    plan.channels = options.channels.map_or(channels, |Channels(channels)| channels);
    plan.augment = augment(options.augment.as_ref(), plan.kind, plan.image_size);
    let by_classes = matches!(options.exact_split(), Some(SplitPlan::Classes { .. } | SplitPlan::Lists { .. }));
    let is_open = options.exact_split().is_none() || (options.labels.is_none() && !by_classes && !plan.rotations);
    let found = match plan.kind {
        DataKind::Images | DataKind::Vectors if is_open => Some(survey_of(&source, options.labels, false, stop)?),
        _ => None,
    };
    plan.labels = options.labels.or(found.as_ref().map(|found| found.labels)).unwrap_or_default();
    if plan.labels == Labels::None && plan.rotations {
        return Err(Error::new(Code::InvalidOption, "turns are classes of their own, and these images have no labels")
            .with_subject("data.rotations")
            .with_values("false", "true"));
    }
    plan.split = match &options.split {
        Some(SplitOption::Exactly(split)) => absolute_lists(split),
        Some(SplitOption::Shares(shares)) => with_shares(default_split(&plan, found.as_ref()), *shares)?,
        None => default_split(&plan, found.as_ref()),
    };
    Ok((plan, source, found))
}

/// What is said of pictures means nothing to vectors; a whole plan has the size and channels that they travel in.
fn check_vectors(options: &DataOptions, dimension: usize, source: &Source) -> Result<()> {
    let (size, channels) = (options.image_size.map(usize::from), options.channels.map(|Channels(channels)| channels));
    let refuse =
        |option: &str, expected: &str, received: String| Err(invalid(format!("data.{option}"), expected, received));
    let nothing = "nothing with data that are vectors";
    match &options.augment {
        None => {}
        Some(AugmentOption::Exactly(spec)) if *spec == AugmentSpec::default() => {}
        Some(_) => return refuse("augment", nothing, "changes of pictures".into()),
    }
    match (size, channels) {
        (Some(size), _) if size != 1 => refuse("imageSize", nothing, size.to_string()),
        (None, Some(channels)) => refuse("channels", nothing, channels.to_string()),
        _ if options.rotations == Some(true) => refuse("rotations", nothing, "true".into()),
        (_, channels) => source.check_dimension(channels.unwrap_or(dimension)),
    }
}

/// The split `usual` of a source with other shares. A test part of the source's own has no share.
fn with_shares(usual: SplitPlan, shares: Shares) -> Result<SplitPlan> {
    let [validation, test] = [shares.validation, shares.test].map(|share| share.map(f64::from));
    let split = match (usual, test) {
        (SplitPlan::Classes { validation: usual, test: usual_test }, _) => {
            SplitPlan::Classes { validation: validation.unwrap_or(usual), test: test.unwrap_or(usual_test) }
        }
        (SplitPlan::Images { validation: usual, test: usual_test }, _) => {
            SplitPlan::Images { validation: validation.unwrap_or(usual), test: test.unwrap_or(usual_test) }
        }
        (SplitPlan::Source { validation: usual }, None) => {
            SplitPlan::Source { validation: validation.unwrap_or(usual) }
        }
        (_, test) => SplitPlan::Classes { validation: validation.unwrap_or(0.1), test: test.unwrap_or(0.2) },
    };
    read("data.split", &write(&split)?)
}

fn absolute_lists(split: &SplitPlan) -> SplitPlan {
    match split {
        SplitPlan::Lists { train, validation, test } => SplitPlan::Lists {
            train: absolute(train),
            validation: validation.as_ref().map(absolute),
            test: test.as_ref().map(absolute),
        },
        other => other.clone(),
    }
}

/// The split that a source has by itself; image files were `found` for it.
fn default_split(plan: &DataPlan, found: Option<&Survey>) -> SplitPlan {
    let classes = |validation, test| SplitPlan::Classes { validation, test };
    let has = |part| found.is_some_and(|found| found.parts.iter().any(|count| count.part == part));
    let source = SplitPlan::Source { validation: if has(Part::Validation) { 0.0 } else { 0.1 } };
    let own_parts = has(Part::Train) && has(Part::Test);
    match (plan.labels, plan.kind, found.and_then(|found| found.name.as_deref())) {
        (Labels::None, _, None) if own_parts => source,
        (Labels::None, ..) => SplitPlan::Images { validation: 0.1, test: 0.1 },
        (_, DataKind::Glyphs | DataKind::Cifar, _) => classes(0.1, 0.2),
        (_, DataKind::Idx, _) => classes(0.2, 0.3),
        (_, DataKind::Omniglot, _) => SplitPlan::Source { validation: 0.1 },
        (_, DataKind::Images | DataKind::Vectors, Some(name)) if splits_by_classes(name) => source,
        (_, DataKind::Images | DataKind::Vectors, None) if own_parts => source,
        (_, DataKind::Images | DataKind::Vectors, _) => classes(0.1, 0.2),
    }
}

fn augment(given: Option<&AugmentOption>, kind: DataKind, image_size: usize) -> AugmentSpec {
    let affine = AugmentSpec { rotate: 10.0, scale: 0.1, shear: 5.0, translate: 0.05, ..AugmentSpec::default() };
    // An eighth of the side: the usual 4 pixels of 32 (He et al. 2016, section 4.2).
    let crop_flip =
        AugmentSpec { crop_padding: image_size.saturating_add(4) / 8, flip: true, ..AugmentSpec::default() };
    match (given, kind) {
        (Some(AugmentOption::Exactly(spec)), _) => spec.clone(),
        (_, DataKind::Vectors) => AugmentSpec::default(),
        (Some(AugmentOption::Affine), _) | (None, DataKind::Glyphs | DataKind::Omniglot) => affine,
        (Some(AugmentOption::CropFlip), _) | (None, _) => crop_flip,
    }
}

/// `$RKD_CACHE`, else `$XDG_CACHE_HOME/rkd`, else `~/.cache/rkd`. Where it cannot be written, a temporary folder takes its
/// place when the images are decoded.
pub fn default_cache() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("RKD_CACHE").or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("rkd")));
    absolute(cache.unwrap_or_else(|| std::env::home_dir().unwrap_or_else(|| "/".into()).join(".cache").join("rkd")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_listed_is_handed_on_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("photos");
        std::fs::create_dir_all(place.join("a")).unwrap();
        std::fs::write(place.join("a/1.png"), "").unwrap();
        let option: DataOption = read("data", &place.display().to_string().into()).unwrap();
        let plan = option.resolve(None, &|| false).unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        assert!(Source::detect(&plan, &|| false).is_ok());
        assert!(Source::detect(&plan, &|| false).is_err());
    }

    #[test]
    fn what_trains_is_known_before_an_image_is_decoded() {
        let part = |classes: &[&str], split: serde_json::Value| {
            let folder = tempfile::tempdir().unwrap();
            for class in classes {
                std::fs::create_dir_all(folder.path().join(class)).unwrap();
                ["1.png", "2.png"]
                    .iter()
                    .for_each(|name| std::fs::write(folder.path().join(class).join(name), "").unwrap());
            }
            let mut option = serde_json::json!({ "source": folder.path().display().to_string() });
            option.as_object_mut().unwrap().extend(split.as_object().unwrap().clone());
            let option: DataOption = read("data", &option).unwrap();
            let TrainingPart { images, classes, sizes } =
                option.look(None, &|| false).unwrap().training_part(&|| false).unwrap();
            (images, classes, sizes)
        };
        let train = ["train/a", "train/b", "train/c", "train/d", "train/e"];
        let with = |more: &[&'static str]| [&train[..], more].concat();
        let own = serde_json::json!({});
        assert_eq!(part(&with(&["test/x"]), own.clone()), (6, 3, vec![2; 3])); // two classes choose the weights
        assert_eq!(part(&with(&["test/a"]), own.clone()), (10, 5, vec![2; 5])); // a tenth of two is none
        assert_eq!(part(&with(&["test/x", "val/y"]), own), (10, 5, vec![2; 5]));
        let classes = serde_json::json!({ "split": { "kind": "classes", "validation": 0.2, "test": 0.2 } });
        assert_eq!(part(&with(&["test/x", "test/y"]), classes), (6, 3, vec![2; 3])); // of all seven
        let images = serde_json::json!({ "split": { "kind": "images", "validation": 0.1, "test": 0.4 } });
        assert_eq!(part(&["a", "b", "c", "d", "e"], images), (5, 5, vec![1; 5]));
        let unlabelled = serde_json::json!({ "labels": "none" });
        assert_eq!(part(&["a", "b", "c", "d", "e"], unlabelled), (6, 0, vec![6])); // two at least
    }

    #[test]
    fn a_share_alone_is_of_the_sources_own_split() {
        let folder = tempfile::tempdir().unwrap();
        for part in ["train", "test"] {
            std::fs::create_dir_all(folder.path().join(part).join("a")).unwrap();
            std::fs::write(folder.path().join(part).join("a/1.png"), "").unwrap();
        }
        let parted = folder.path().display().to_string();
        let split = |source: &str, split: serde_json::Value| {
            let option: DataOption = read("data", &serde_json::json!({ "source": source, "split": split }))?;
            option.resolve(None, &|| false).map(|plan| plan.split)
        };
        let classes = |validation, test| SplitPlan::Classes { validation, test };
        let share = serde_json::json!({ "validation": 0.25 });
        assert_eq!(split("glyphs", share.clone()).unwrap(), classes(0.25, 0.2));
        let flat = tempfile::tempdir().unwrap();
        ["1.png", "2.png"].iter().for_each(|name| std::fs::write(flat.path().join(name), "").unwrap());
        let of_images = split(&flat.path().display().to_string(), share.clone()).unwrap();
        assert_eq!(of_images, SplitPlan::Images { validation: 0.25, test: 0.1 });
        assert_eq!(split(&parted, share).unwrap(), SplitPlan::Source { validation: 0.25 });
        assert_eq!(split(&parted, serde_json::json!({ "test": 0.5 })).unwrap(), classes(0.1, 0.5));
        let message = split("glyphs", serde_json::json!({ "validation": 0.9 })).unwrap_err().to_string();
        assert!(message.starts_with("data.split: invalid value: expected shares that leave something"), "{message}");
    }
}
