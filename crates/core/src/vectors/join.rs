//! Which vector belongs to which image.
//!
//! Both sides have names, and they are compared by rules, from the whole id to what is left of a path, until one gives
//! every image a vector; else the one that matches most images wins, of equal ones the first. A rule matches an image
//! where exactly one image and one id have a key in common. Names that several images or ids share match nothing, and
//! stop the join.
//!
//! Before they are compared, backslashes become slashes, `./` and `file://` in front go, and accents are composed.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde::Serialize;

use super::table::{VectorTable, invalid};
use crate::error::{Error, Result};
use crate::names::{IMAGE_ENDINGS, composed};

/// The share of images with a vector, in percent, below which a join stops.
const POOR: usize = 90;
/// Examples of each side in a report.
const EXAMPLES: usize = 3;

/// Endings of images that are not read here, but by programs that write vectors.
const OTHER_ENDINGS: [&str; 2] = ["pnm", "avif"];

/// How ids of vectors and images are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum JoinRule {
    /// The whole id: the image's path in the data set.
    Id,
    /// The path without the ending of an image.
    PathWithoutEnding,
    /// The last part of the path.
    FileName,
    /// The last part of the path without the ending of an image.
    FileNameWithoutEnding,
    /// One path ends with the other: vectors under absolute paths, or of a folder inside of the data set.
    PathSuffix,
    /// The id that a manifest, or the metadata beside the images, gives the image.
    ManifestId,
}

/// The rules behind [`JoinRule::Id`] that compare paths, in the order in which they are tried.
const LOOSER: [JoinRule; 4] =
    [JoinRule::PathWithoutEnding, JoinRule::FileName, JoinRule::FileNameWithoutEnding, JoinRule::PathSuffix];

impl JoinRule {
    /// What is compared, in words.
    pub fn sentence(self) -> &'static str {
        match self {
            JoinRule::Id => "by the images' paths in the data set",
            JoinRule::PathWithoutEnding => "by the images' paths without their endings",
            JoinRule::FileName => "by file names",
            JoinRule::FileNameWithoutEnding => "by file names without their endings",
            JoinRule::PathSuffix => "by the ends of paths",
            JoinRule::ManifestId => "by the ids of the manifest",
        }
    }
}

/// How a join went.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct JoinReport {
    /// The rule that matched most.
    pub rule: JoinRule,
    /// Number of images.
    pub images: usize,
    /// Number of vectors.
    pub vectors: usize,
    /// Images with a vector.
    pub matched: usize,
    /// Images without one; they cannot be trained on.
    pub images_without_vector: usize,
    /// Ids that belong to no image, each counted once.
    pub vectors_without_image: usize,
    /// Images whose name another image or another id shares.
    pub ambiguous: usize,
    /// Vectors whose id and numbers came before.
    pub equal_duplicates: usize,
    /// Vectors whose id came before with other numbers.
    pub different_duplicates: usize,
    /// Some images without a vector, in the order of the data set.
    pub image_examples: Vec<String>,
    /// Some ids without an image, in the order of the table.
    pub vector_examples: Vec<String>,
    /// What a user should know.
    pub warnings: Vec<String>,
}

/// A vector for each image.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The row of each image in the table; nothing for one without a vector.
    pub rows: Vec<Option<u32>>,
    /// How it went.
    pub report: JoinReport,
}

/// What the images of a data set are called, each list in its order.
#[derive(Clone, Copy, Debug)]
pub struct ImageNames<'a> {
    /// Their ids in the data set: their paths, or what a manifest gives in place of them.
    pub ids: &'a [String],
    /// Their paths, where some of the ids are a manifest's.
    pub paths: Option<&'a [String]>,
    /// What a manifest, or the metadata beside the images, calls them, where it has ids.
    pub given: Option<&'a [String]>,
}

/// Joins the vectors of `table` to images. Ids of a manifest that are the images' own in the data set are compared first;
/// then paths; and ids that are not the data set's last.
///
/// Images without a vector are left out of training, and a warning counts them. With `allow_missing` there may be any
/// number of them.
///
/// # Errors
/// `ERR_INVALID_DATA` if less than 90 % of the images have a vector, without `allow_missing`, or none; if images or ids
/// share the names by which they are joined; if an image has two different vectors.
pub fn join(table: &VectorTable, names: ImageNames<'_>, allow_missing: bool) -> Result<Join> {
    let images = names.ids;
    let (ids, own) = (all_plain(&table.ids), all_plain(images));
    let distinct = Distinct::of(table, &ids);
    let sides = Sides { ids: &ids, rows: &distinct.rows, images: &own };

    let (paths, given) = (names.paths.map(all_plain), names.given.filter(|given| *given != images).map(all_plain));
    let of_paths = Sides { images: paths.as_deref().unwrap_or(&own), ..sides };
    let first = if paths.is_some() { JoinRule::ManifestId } else { JoinRule::Id };
    let others = paths.iter().map(|_| (JoinRule::Id, of_paths)).chain(LOOSER.map(|rule| (rule, of_paths)));
    let of_manifest = given.as_deref().map(|images| (JoinRule::ManifestId, Sides { images, ..sides }));
    // The first of the best: one that matches enough without doubt, else what matches most.
    let score = |attempt: &Attempt| {
        let clear = attempt.ambiguous.is_empty() && 100 * attempt.matched >= POOR * images.len();
        let ambiguous = attempt.ambiguous.len() as isize;
        // Where nothing matches, names that are shared say most about why.
        (clear, attempt.matched, if attempt.matched == 0 { ambiguous } else { -ambiguous })
    };
    let (mut rule, mut best) = (first, sides.compare(first));
    for (other, sides) in others.chain(of_manifest) {
        if best.matched == images.len() {
            break; // Nothing is better.
        }
        let attempt = sides.compare(other);
        if score(&attempt) > score(&best) {
            (rule, best) = (other, attempt);
        }
    }
    let report = report_of(rule, &best, table, images, &distinct);
    check(&report, &best, table, images, &distinct, allow_missing)?;
    Ok(Join { rows: best.rows, report })
}

/// The ids of a table, each once.
struct Distinct {
    /// The first row of each.
    rows: Vec<u32>,
    /// Vectors that came before under the same id.
    equal: usize,
    /// Rows whose id came before with other numbers, and the row where it came.
    different: Vec<(u32, u32)>,
}

impl Distinct {
    fn of(table: &VectorTable, ids: &[Cow<str>]) -> Distinct {
        let mut distinct = Distinct { rows: Vec::new(), equal: 0, different: Vec::new() };
        let mut first: HashMap<&str, u32> = HashMap::with_capacity(ids.len());
        for (row, id) in (0..).zip(ids) {
            match first.get(&id[..]) {
                None => {
                    first.insert(id, row);
                    distinct.rows.push(row);
                }
                Some(&before) if table.row(row as usize) == table.row(before as usize) => distinct.equal += 1,
                Some(&before) => distinct.different.push((before, row)),
            }
        }
        distinct
    }
}

/// What is compared.
#[derive(Clone, Copy)]
struct Sides<'a> {
    ids: &'a [Cow<'a, str>],
    /// The rows of distinct ids.
    rows: &'a [u32],
    images: &'a [Cow<'a, str>],
}

/// What a rule found.
struct Attempt {
    rows: Vec<Option<u32>>,
    matched: usize,
    /// Images whose key another image or id has.
    ambiguous: Vec<u32>,
}

/// Who has a key: one, or several.
#[derive(Clone, Copy)]
enum Holder {
    One(u32),
    Several,
}

fn holders<'a>(keys: impl Iterator<Item = (&'a str, u32)>) -> HashMap<&'a str, Holder> {
    let mut holders = HashMap::new();
    for (key, holder) in keys {
        holders.entry(key).and_modify(|held| *held = Holder::Several).or_insert(Holder::One(holder));
    }
    holders
}

impl<'a> Sides<'a> {
    /// Images and ids that belong together by `rule`.
    fn compare(&self, rule: JoinRule) -> Attempt {
        match rule {
            JoinRule::Id | JoinRule::ManifestId => self.by(|id| id),
            JoinRule::PathWithoutEnding => self.by(without_ending),
            JoinRule::FileName => self.by(file_name),
            JoinRule::FileNameWithoutEnding => self.by(|id| without_ending(file_name(id))),
            JoinRule::PathSuffix => self.by_suffix(),
        }
    }

    /// Images and ids that have a key in common.
    fn by(&self, key: fn(&str) -> &str) -> Attempt {
        let ids = holders(self.rows.iter().map(|&row| (key(&self.ids[row as usize]), row)));
        let images = holders(self.images.iter().map(|image| key(image)).zip(0..));
        let mut attempt = Attempt { rows: vec![None; self.images.len()], matched: 0, ambiguous: Vec::new() };
        for (image, path) in (0..).zip(self.images) {
            let key = key(path);
            match (ids.get(key), images.get(key)) {
                (Some(&Holder::One(row)), Some(Holder::One(_))) => attempt.rows[image as usize] = Some(row),
                (Some(_), _) => attempt.ambiguous.push(image),
                (None, _) => {}
            }
        }
        attempt.matched = attempt.rows.iter().flatten().count();
        attempt
    }

    /// Images and ids of which one ends with the other.
    fn by_suffix(&self) -> Attempt {
        let images: HashMap<&str, u32> = self.images.iter().map(|image| &image[..]).zip(0..).collect();
        let ids: HashMap<&str, u32> = self.rows.iter().map(|&row| (&self.ids[row as usize][..], row)).collect();
        let of_ids = self.rows.iter().filter_map(|&row| Some((longest_suffix(&self.ids[row as usize], &images)?, row)));
        let of_images = (0..).zip(self.images).filter_map(|(image, path)| Some((image, longest_suffix(path, &ids)?)));
        // Whole ids come from both sides.
        let mut pairs: Vec<(u32, u32)> = of_ids.chain(of_images).collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut uses: HashMap<u32, usize> = HashMap::new();
        pairs.iter().for_each(|&(_, row)| *uses.entry(row).or_default() += 1);
        let mut attempt = Attempt { rows: vec![None; self.images.len()], matched: 0, ambiguous: Vec::new() };
        for pairs in pairs.chunk_by(|a, b| a.0 == b.0) {
            match pairs {
                [(image, row)] if uses[row] == 1 => attempt.rows[*image as usize] = Some(*row),
                _ => attempt.ambiguous.push(pairs[0].0),
            }
        }
        attempt.matched = attempt.rows.iter().flatten().count();
        attempt
    }
}

/// What the longest end of `path`, from a slash on, stands for.
fn longest_suffix(path: &str, names: &HashMap<&str, u32>) -> Option<u32> {
    let ends = path.match_indices('/').map(|(slash, _)| &path[slash + 1..]);
    std::iter::once(path).chain(ends).find_map(|end| names.get(end).copied())
}

/// An id as it is compared.
fn plain(id: &str) -> Cow<'_, str> {
    let id = composed(id.strip_prefix("file://").unwrap_or(id));
    let mut plain = if id.contains('\\') { Cow::Owned(id.replace('\\', "/")) } else { id };
    while let Some(rest) = plain.strip_prefix("./") {
        plain = Cow::Owned(rest.to_string());
    }
    plain
}

fn all_plain(ids: &[String]) -> Vec<Cow<'_, str>> {
    ids.iter().map(|id| plain(id)).collect()
}

fn file_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn without_ending(path: &str) -> &str {
    let is_image = |ending: &str| IMAGE_ENDINGS.iter().chain(&OTHER_ENDINGS).any(|it| ending.eq_ignore_ascii_case(it));
    path.rsplit_once('.').filter(|(_, ending)| is_image(ending)).map_or(path, |(name, _)| name)
}

fn report_of(
    rule: JoinRule,
    best: &Attempt,
    table: &VectorTable,
    images: &[String],
    distinct: &Distinct,
) -> JoinReport {
    let mut used = vec![false; table.len()];
    best.rows.iter().flatten().for_each(|&row| used[row as usize] = true);
    let without_vector = images.iter().zip(&best.rows).filter(|(_, row)| row.is_none()).map(|(image, _)| image);
    let without_image = distinct.rows.iter().filter(|&&row| !used[row as usize]).map(|&row| &table.ids[row as usize]);
    let mut report = JoinReport {
        rule,
        images: images.len(),
        vectors: table.len(),
        matched: best.matched,
        images_without_vector: images.len() - best.matched,
        vectors_without_image: distinct.rows.len() - best.matched,
        ambiguous: best.ambiguous.len(),
        equal_duplicates: distinct.equal,
        different_duplicates: distinct.different.len(),
        image_examples: without_vector.take(EXAMPLES).map(|image| image.to_string()).collect(),
        vector_examples: without_image.take(EXAMPLES).cloned().collect(),
        warnings: Vec::new(),
    };
    let of = |examples: &[String]| examples.join(", ");
    let warnings = [
        (
            report.images_without_vector,
            format!(
                "images without a vector, left out of training: {} of {} ({}, ...)",
                report.images_without_vector,
                report.images,
                of(&report.image_examples)
            ),
        ),
        (
            report.vectors_without_image,
            format!(
                "vectors without an image: {} ({}, ...)",
                report.vectors_without_image,
                of(&report.vector_examples)
            ),
        ),
        (report.equal_duplicates, format!("vectors that are there twice under one id: {}", report.equal_duplicates)),
        (
            report.different_duplicates,
            format!("ids with two different vectors, of no image here: {}", report.different_duplicates),
        ),
    ];
    report.warnings = warnings.into_iter().filter(|(count, _)| *count > 0).map(|(_, text)| text).collect();
    report
}

fn check(
    report: &JoinReport,
    best: &Attempt,
    table: &VectorTable,
    images: &[String],
    distinct: &Distinct,
    allow_missing: bool,
) -> Result<()> {
    if !best.ambiguous.is_empty() {
        let some = best.ambiguous.iter().take(EXAMPLES).map(|&image| &images[image as usize][..]).collect::<Vec<_>>();
        return Err(invalid("the vectors cannot be joined to the images: several share a name")
            .with_values(
                format!("names that differ, joined {}", report.rule.sentence()),
                format!("{} images whose name is not theirs alone: {}", report.ambiguous, some.join(", ")),
            )
            .with_advice("store the vectors under the images' whole paths in the data set"));
    }
    let matched: HashSet<u32> = best.rows.iter().flatten().copied().collect();
    if let Some(&(before, row)) = distinct.different.iter().find(|(before, _)| matched.contains(before)) {
        return Err(invalid("an image has two different vectors")
            .with_values(
                "one vector for each id",
                format!("{} in rows {} and {}", table.ids[row as usize], before + 1, row + 1),
            )
            .with_advice(format!(
                "keep one of them; {} vectors have an id that came before with other numbers",
                report.different_duplicates
            )));
    }
    let poor = 100 * report.matched < POOR * report.images;
    if report.matched == 0 || poor && !allow_missing {
        return Err(poor_join(report, allow_missing));
    }
    Ok(())
}

fn poor_join(report: &JoinReport, allow_missing: bool) -> Error {
    let least = if allow_missing { "at least one image".into() } else { format!("at least {POOR} % of the images") };
    let advice = match (report.matched, allow_missing) {
        (0, _) | (_, true) => {
            "name the column with the images' paths (idColumn), or store the vectors under the images' paths in the data set"
        }
        _ => {
            "write the missing vectors, name the column with the images' paths (idColumn), or leave images without a \
             vector out of training (allowMissing)"
        }
    };
    invalid("the vectors do not fit the images")
        .with_values(
            format!("a vector for {least}"),
            format!(
                "{} of {} (joined {}); images without a vector: {}; ids without an image: {}",
                report.matched,
                report.images,
                report.rule.sentence(),
                quoted(&report.image_examples),
                quoted(&report.vector_examples)
            ),
        )
        .with_advice(advice)
}

fn quoted(examples: &[String]) -> String {
    match examples {
        [] => "none".into(),
        some => some.iter().map(|example| format!("{example:?}")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{TableBuilder, VectorElement, VectorFormat};

    /// Vector i is `[i]`, unless the id says which: `a=3`.
    fn table(ids: &[&str]) -> VectorTable {
        let mut builder = TableBuilder::new();
        for (index, id) in ids.iter().enumerate() {
            let (id, number) = id.split_once('=').map_or((*id, index as f32), |(id, n)| (id, n.parse().unwrap()));
            builder.push(id.into(), &[number]).unwrap();
        }
        builder.finish(VectorFormat::Given, VectorElement::Float32).unwrap()
    }

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn joined_where(ids: &[&str], images: &[&str], allow_missing: bool) -> Result<Join> {
        join(&table(ids), ImageNames { ids: &strings(images), paths: None, given: None }, allow_missing)
    }

    fn joined(ids: &[&str], images: &[&str]) -> Result<Join> {
        joined_where(ids, images, false)
    }

    /// Joins to images of a manifest: their paths, and the ids that it gives them.
    fn joined_to_manifest(ids: &[&str], paths: &[&str], given: &[&str]) -> Result<Join> {
        let (paths, given) = (strings(paths), strings(given));
        join(&table(ids), ImageNames { ids: &given, paths: Some(&paths), given: Some(&given) }, false)
    }

    #[test]
    fn each_rule_joins_what_it_is_for() {
        let images = ["cat/1.jpg", "cat/2.jpg", "dog/3.PNG"];
        for (rule, ids) in [
            (JoinRule::Id, ["dog/3.PNG", "cat/1.jpg", "cat/2.jpg"]),
            (JoinRule::Id, ["./dog/3.PNG", "cat\\1.jpg", "file://cat/2.jpg"]),
            (JoinRule::PathWithoutEnding, ["dog/3", "cat/1", "cat/2"]),
            (JoinRule::PathWithoutEnding, ["dog/3.jpeg", "cat/1.webp", "cat/2.png"]),
            (JoinRule::FileName, ["3.PNG", "1.jpg", "2.jpg"]),
            (JoinRule::FileName, ["x/3.PNG", "y/1.jpg", "z/2.jpg"]),
            (JoinRule::FileNameWithoutEnding, ["3", "1", "2"]),
            (JoinRule::FileName, ["/data/dog/3.PNG", "/data/cat/1.jpg", "/data/cat/2.jpg"]),
        ] {
            let join = joined(&ids, &images).unwrap();
            assert_eq!((join.report.rule, &join.rows[..]), (rule, &[Some(1), Some(2), Some(0)][..]), "{ids:?}");
            assert!(join.report.warnings.is_empty());
        }
    }

    #[test]
    fn paths_that_end_alike_are_joined_where_file_names_repeat() {
        let absolute = joined(&["/data/dog/1.jpg", "/data/cat/1.jpg"], &["cat/1.jpg", "dog/1.jpg"]).unwrap();
        assert_eq!((absolute.report.rule, &absolute.rows[..]), (JoinRule::PathSuffix, &[Some(1), Some(0)][..]));
        let inner = joined(&["dog/1.jpg", "cat/1.jpg"], &["images/cat/1.jpg", "images/dog/1.jpg"]).unwrap();
        assert_eq!((inner.report.rule, &inner.rows[..]), (JoinRule::PathSuffix, &[Some(1), Some(0)][..]));
    }

    #[test]
    fn images_of_a_manifest_are_known_by_its_ids_and_by_their_paths() {
        let (paths, given) = (["a/1.jpg", "a/2.jpg"], ["sku-1", "sku-2"]);
        for (rule, ids) in [
            (JoinRule::ManifestId, ["sku-2", "sku-1"]),
            (JoinRule::Id, ["a/2.jpg", "a/1.jpg"]),
            (JoinRule::FileName, ["2.jpg", "1.jpg"]),
        ] {
            let join = joined_to_manifest(&ids, &paths, &given).unwrap();
            assert_eq!((join.report.rule, &join.rows[..]), (rule, &[Some(1), Some(0)][..]), "{ids:?}");
        }
        // An id that is another image's path is the id.
        let join = joined_to_manifest(&["2.jpg", "1.jpg"], &["1.jpg", "2.jpg"], &["2.jpg", "1.jpg"]).unwrap();
        assert_eq!((join.report.rule, &join.rows[..]), (JoinRule::ManifestId, &[Some(0), Some(1)][..]));
    }

    #[test]
    fn ids_that_are_not_the_data_sets_are_compared_last_and_stop_the_join_where_they_are_shared() {
        let images = strings(&["a/1.jpg", "a/2.jpg", "a/3.jpg"]);
        let joined = |ids: &[&str], given: &[&str]| {
            join(&table(ids), ImageNames { ids: &images, paths: None, given: Some(&strings(given)) }, false)
        };
        let found = joined(&["c", "a", "b"], &["a", "b", "c"]).unwrap();
        assert_eq!((found.report.rule, &found.rows[..]), (JoinRule::ManifestId, &[Some(1), Some(2), Some(0)][..]));
        let by_name = joined(&["3", "1", "2"], &["1", "2", "3"]).unwrap();
        assert_eq!(
            (by_name.report.rule, &by_name.rows[..]),
            (JoinRule::FileNameWithoutEnding, &[Some(1), Some(2), Some(0)][..])
        );
        let error = joined(&["a", "b"], &["a", "a", "b"]).unwrap_err().to_string();
        for part in ["several share a name", "by the ids of the manifest", "2 images", "a/1.jpg, a/2.jpg"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn accents_are_one_letter_or_two() {
        let join = joined(&["caf\u{e9}.jpg"], &["cafe\u{301}.jpg"]).unwrap();
        assert_eq!((join.report.rule, join.report.matched), (JoinRule::Id, 1));
    }

    #[test]
    fn names_that_are_shared_stop_the_join() {
        let error = joined(&["1.jpg", "2.jpg"], &["cat/1.jpg", "dog/1.jpg", "dog/2.jpg"]).unwrap_err().to_string();
        assert!(error.contains("several share a name") && error.contains("2 images"), "{error}");
        assert!(error.contains("cat/1.jpg, dog/1.jpg") && error.contains("whole paths"), "{error}");
        // On the other side.
        let error = joined(&["x/1.jpg", "y/1.jpg"], &["1.jpg"]).unwrap_err().to_string();
        assert!(error.contains("several share a name"), "{error}");
    }

    #[test]
    fn a_poor_join_stops_with_examples_of_both_sides() {
        let error = joined(&["7", "8", "9", "10"], &["a.jpg", "b.jpg", "c.jpg", "d.jpg"]).unwrap_err();
        assert_eq!(error.code, crate::Code::InvalidData);
        let text = error.to_string();
        for part in [
            "expected a vector for at least 90 % of the images, received 0 of 4",
            "images without a vector: \"a.jpg\", \"b.jpg\", \"c.jpg\"",
            "ids without an image: \"7\", \"8\", \"9\"",
            "idColumn",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn missing_vectors_are_allowed_up_to_a_tenth_or_where_it_is_said() {
        let images: Vec<String> = (0..10).map(|i| format!("{i}.jpg")).collect();
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        let most = joined(&images[1..], &images).unwrap();
        assert_eq!((most.report.matched, most.report.images_without_vector, most.rows[0]), (9, 1, None));
        assert_eq!(most.report.warnings, ["images without a vector, left out of training: 1 of 10 (0.jpg, ...)"]);
        let error = joined(&images[2..], &images).unwrap_err().to_string();
        assert!(error.contains("received 8 of 10") && error.contains("allowMissing"), "{error}");
        let few = joined_where(&images[9..], &images, true).unwrap();
        assert_eq!(few.report.matched, 1);
        let none = joined_where(&["x"], &images, true).unwrap_err().to_string();
        assert!(none.contains("a vector for at least one image"), "{none}");
    }

    #[test]
    fn vectors_of_one_id_are_equal_or_stop_the_join() {
        let join = joined(&["a.jpg=1", "a.jpg=1", "b.jpg=2"], &["a.jpg", "b.jpg"]).unwrap();
        assert_eq!((join.report.equal_duplicates, &join.rows[..]), (1, &[Some(0), Some(2)][..]));
        let error = joined(&["a.jpg=1", "a.jpg=3", "b.jpg=2"], &["a.jpg", "b.jpg"]).unwrap_err().to_string();
        assert!(error.contains("two different vectors") && error.contains("a.jpg in rows 1 and 2"), "{error}");
        // Nobody reads those of other images.
        let join = joined(&["a.jpg=1", "x.jpg=1", "x.jpg=2"], &["a.jpg"]).unwrap();
        assert_eq!((join.report.different_duplicates, join.report.vectors_without_image), (1, 1));
        assert_eq!(join.report.vector_examples, ["x.jpg"]);
    }

    #[test]
    fn many_images_are_no_work() {
        // Compared one by one, these would be 10,000,000,000 comparisons.
        let images: Vec<String> = (0..100_000).map(|i| format!("photos/class{:03}/{i:06}.jpg", i % 300)).collect();
        let ids: Vec<String> = images.iter().map(|image| format!("/mnt/data/{image}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let images: Vec<&str> = images.iter().map(String::as_str).collect();
        assert_eq!(joined(&ids, &images).unwrap().report.matched, 100_000);
    }
}
