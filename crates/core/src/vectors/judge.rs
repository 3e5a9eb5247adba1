//! What is odd about vectors, before anything is learnt from them.

use std::collections::HashSet;

use serde::Serialize;

use super::table::{VectorElement, VectorFormat, VectorTable, invalid};
use crate::error::Result;

/// How far a norm may be from 1 for a vector that was normalised; float16 rounds by half of it.
const UNIT: f64 = 1e-3;
/// The fewest vectors among which two populations of norms are looked for.
const FEWEST: usize = 20;

/// Norms between which squares of float32 numbers are neither 0 nor infinite.
const USABLE: std::ops::RangeInclusive<f64> = 1e-15..=1e15;

/// What [`judge`] found.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct VectorSummary {
    /// Where the vectors come from.
    pub format: VectorFormat,
    /// The type of the stored numbers.
    pub element: VectorElement,
    /// Number of vectors.
    pub vectors: usize,
    /// Numbers of each.
    pub dimension: usize,
    /// As [`VectorTable::hash`].
    pub hash: String,
    /// The Euclidean norms.
    pub norms: Norms,
    /// Whether all norms are 1, within 0.001.
    pub normalized: bool,
    /// Vectors of zeros.
    pub zero: usize,
    /// Vectors equal to one before them.
    pub repeated: usize,
    /// Places at which all vectors have the same number.
    pub constant_places: usize,
    /// What a user should know, that of the reading first.
    pub warnings: Vec<String>,
}

/// Euclidean norms of vectors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct Norms {
    /// The smallest.
    pub minimum: f64,
    /// The one in the middle.
    pub median: f64,
    /// The largest.
    pub maximum: f64,
}

/// Looks at the numbers of a table that was read, or given: it has at least one vector.
///
/// # Errors
/// `ERR_INVALID_DATA` for a number that is not finite, naming id and place, and where all vectors are equal, or so short or long
/// that their squares are no numbers.
pub fn judge(table: &VectorTable) -> Result<VectorSummary> {
    check_finite(table)?;
    let mut norms: Vec<f64> = rows(table).map(norm).collect();
    norms.sort_unstable_by(f64::total_cmp);
    let longest = norms.last().copied().unwrap_or_default();
    if longest > 0.0 && !USABLE.contains(&longest) {
        return Err(invalid("the vectors are too short or too long to learn from")
            .with_values(
                format!("a largest norm from {:e} to {:e}", USABLE.start(), USABLE.end()),
                format!("{longest:e}"),
            )
            .with_advice("multiply all of them by one number: relations stay the same"));
    }
    let repeated = repeated(table);
    let (count, zero) = (table.len(), norms.iter().take_while(|&&norm| norm == 0.0).count());
    if count > 1 && repeated == count - 1 {
        return Err(invalid("all vectors are equal: the teacher tells no image from another")
            .with_values("vectors that differ", format!("{count} times {}", beginning(table.row(0))))
            .with_advice("look at the program that wrote them: a wrong layer, or no image that reached the model"));
    }
    let constant_places = if count > 1 { constant_places(table) } else { 0 };
    let mut summary = VectorSummary {
        format: table.format,
        element: table.element,
        vectors: count,
        dimension: table.dimension,
        hash: table.hash.clone(),
        norms: Norms {
            minimum: norms.first().copied().unwrap_or_default(),
            median: norms.get(count / 2).copied().unwrap_or_default(),
            maximum: longest,
        },
        normalized: norms.iter().all(|norm| (norm - 1.0).abs() <= UNIT),
        zero,
        repeated,
        constant_places,
        warnings: table.warnings.clone(),
    };
    warn(&mut summary, table, &norms[zero..]);
    Ok(summary)
}

fn warn(summary: &mut VectorSummary, table: &VectorTable, norms: &[f64]) {
    let share = |count: usize| format!("{count} of {} ({:.1} %)", summary.vectors, percent(count, summary.vectors));
    let mut warnings = Vec::new();
    if summary.zero > 0 {
        let first = rows(table).position(|row| norm(row) == 0.0).map_or("", |row| &table.ids[row]);
        warnings
            .push(format!("vectors of zeros, which have no direction: {}; the first is {first}", share(summary.zero)));
    }
    if summary.repeated > 0 {
        warnings.push(format!(
            "vectors equal to one before them: {}; the same images under two names, or a teacher that saw none",
            share(summary.repeated)
        ));
    }
    if summary.constant_places > 0 {
        warnings.push(format!(
            "places at which all vectors have the same number: {} of {}",
            summary.constant_places, summary.dimension
        ));
    }
    if let Some(split) = two_populations(norms) {
        let (low, high) = norms.split_at(split);
        let of = |norms: &[f64]| format!("{} about {:.3}", norms.len(), norms[norms.len() / 2]);
        warnings.push(format!(
            "norms of two kinds, {} and {}: vectors of two models or versions, or only some normalised",
            of(low),
            of(high)
        ));
    }
    match summary.element {
        VectorElement::Float16 => warnings.push(
            "stored as float16, which keeps 3 digits: distances of near neighbours are rough; float32 keeps 7".into(),
        ),
        VectorElement::BFloat16 => warnings.push(
            "stored as bfloat16, which keeps 2 digits: distances of near neighbours are rough; float32 keeps 7".into(),
        ),
        _ => {}
    }
    summary.warnings.extend(warnings);
}

fn rows(table: &VectorTable) -> impl Iterator<Item = &[f32]> {
    table.rows.chunks_exact(table.dimension.max(1))
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
}

fn percent(count: usize, all: usize) -> f64 {
    100.0 * count as f64 / all as f64
}

fn beginning(row: &[f32]) -> String {
    let more = if row.len() > 4 { ", ..." } else { "" };
    let numbers: Vec<String> = row.iter().take(4).map(f32::to_string).collect();
    format!("[{}{more}]", numbers.join(", "))
}

fn check_finite(table: &VectorTable) -> Result<()> {
    let Some(index) = table.rows.iter().position(|number| !number.is_finite()) else { return Ok(()) };
    let (row, place) = (index / table.dimension, index % table.dimension);
    let bad = rows(table).filter(|row| row.iter().any(|number| !number.is_finite())).count();
    Err(invalid(format!("{bad} of {} vectors have numbers that are not finite", table.len()))
        .with_values(
            "finite numbers within float32",
            format!("{} at place {} of vector {} ({})", table.rows[index], place + 1, row + 1, table.ids[row]),
        )
        .with_advice("write these vectors again, or leave them out; float16 overflows beyond 65504"))
}

/// Vectors that are equal to one before them. Zeros of either sign are equal.
fn repeated(table: &VectorTable) -> usize {
    let mut seen: HashSet<[u8; 32]> = HashSet::with_capacity(table.len());
    let mut bytes = Vec::with_capacity(4 * table.dimension);
    let is_repeated = |row: &[f32]| {
        bytes.clear();
        bytes.extend(row.iter().flat_map(|&number| (number + 0.0).to_le_bytes()));
        !seen.insert(*blake3::hash(&bytes).as_bytes())
    };
    rows(table).map(is_repeated).filter(|&repeated| repeated).count()
}

fn constant_places(table: &VectorTable) -> usize {
    let mut constant = vec![true; table.dimension];
    for row in rows(table).skip(1) {
        for ((constant, number), first) in constant.iter_mut().zip(row).zip(table.row(0)) {
            *constant &= number == first;
        }
    }
    constant.into_iter().filter(|&constant| constant).count()
}

/// Where sorted, positive norms fall into two groups: at a gap that is wider, as a ratio, than both groups together, each
/// of at least 1 % of the vectors. The outermost 0.5 % on each side are no part of a group's width.
fn two_populations(norms: &[f64]) -> Option<usize> {
    let count = norms.len();
    if count < FEWEST {
        return None;
    }
    let (fewest, outer) = ((count / 100).max(3), count / 200);
    let logarithm = |index: usize| norms[index].ln();
    let width = logarithm(count - 1 - outer) - logarithm(outer);
    let gap = |split: &usize| logarithm(*split) - logarithm(split - 1);
    let split = (fewest..=count - fewest).max_by(|a, b| gap(a).total_cmp(&gap(b)))?;
    (gap(&split) > (width / 2.0).max(1.05f64.ln())).then_some(split)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use crate::vectors::TableBuilder;

    fn table_of(rows: &[Vec<f32>], element: VectorElement) -> VectorTable {
        let mut builder = TableBuilder::new();
        rows.iter().enumerate().for_each(|(i, row)| builder.push(format!("{i}.jpg"), row).unwrap());
        builder.finish(VectorFormat::Given, element).unwrap()
    }

    #[test]
    fn vectors_whose_squares_are_no_numbers_are_refused() {
        for scale in [1e-30f32, 1e30] {
            let error = judged(&[vec![scale, 0.0], vec![0.0, scale]]).unwrap_err().to_string();
            assert!(error.contains("expected a largest norm from 1e-15 to 1e15"), "{error}");
        }
        assert!(judged(&[vec![1e-10, 0.0], vec![0.0, 1e-10]]).is_ok());
    }

    fn judged(rows: &[Vec<f32>]) -> Result<VectorSummary> {
        judge(&table_of(rows, VectorElement::Float32))
    }

    /// Vectors of 8 numbers whose norms are between `low` and `high`, evenly.
    fn drawn(count: usize, low: f32, high: f32) -> Vec<Vec<f32>> {
        let number = |i: usize| ((i as f32 * 12.9898).sin() * 43758.547).fract();
        (0..count)
            .map(|i| {
                let row: Vec<f32> = (0..8).map(|k| number(8 * i + k)).collect();
                let scale = (low + (high - low) * (i as f32 + 0.5) / count as f32) / norm(&row) as f32;
                row.iter().map(|number| number * scale).collect()
            })
            .collect()
    }

    #[test]
    fn vectors_without_fault_have_no_warnings() {
        let unit = judged(&drawn(100, 1.0, 1.0)).unwrap();
        assert!(unit.normalized && unit.warnings.is_empty(), "{unit:?}");
        let wide = judged(&drawn(100, 5.0, 20.0)).unwrap();
        assert!(!wide.normalized && wide.warnings.is_empty(), "{wide:?}");
        assert!((wide.norms.minimum - 5.075).abs() < 1e-3 && (wide.norms.maximum - 19.925).abs() < 1e-3);
        assert_eq!((wide.vectors, wide.dimension, wide.zero, wide.repeated), (100, 8, 0, 0));
    }

    #[test]
    fn a_number_that_is_not_finite_is_an_error_with_its_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut rows = drawn(5, 1.0, 2.0);
            rows[3][6] = bad;
            let text = judged(&rows).unwrap_err().to_string();
            assert!(text.contains(&format!("received {bad} at place 7 of vector 4 (3.jpg)")), "{text}");
            assert!(text.contains("1 of 5 vectors"), "{text}");
        }
    }

    #[test]
    fn equal_vectors_are_an_error_and_some_a_warning() {
        let text = judged(&vec![vec![0.5, 1.0]; 3]).unwrap_err().to_string();
        assert!(text.contains("all vectors are equal") && text.contains("3 times [0.5, 1]"), "{text}");
        assert!(judged(&vec![vec![0.0; 6]; 2]).is_err());
        let mut rows = drawn(8, 1.0, 2.0);
        rows[5] = rows[2].clone();
        rows[7] = rows[2].clone();
        let summary = judged(&rows).unwrap();
        assert_eq!(summary.repeated, 2);
        assert!(summary.warnings[0].starts_with("vectors equal to one before them: 2 of 8 (25.0 %)"));
        // One vector is no sign of anything.
        assert_eq!(judged(&rows[..1]).unwrap().repeated, 0);
    }

    #[test]
    fn zeros_and_constant_places_are_warned_of() {
        let mut rows = drawn(10, 1.0, 2.0);
        rows[4] = vec![0.0; 8];
        let summary = judged(&rows).unwrap();
        assert_eq!(
            summary.warnings,
            ["vectors of zeros, which have no direction: 1 of 10 (10.0 %); the first is 4.jpg"]
        );
        let mut rows = drawn(10, 1.0, 2.0);
        rows.iter_mut().for_each(|row| row[2] = 0.25);
        let summary = judged(&rows).unwrap();
        assert_eq!(summary.warnings, ["places at which all vectors have the same number: 1 of 8"]);
    }

    #[test]
    fn two_populations_of_norms_are_told() {
        for (mut rows, other, says) in [
            (drawn(90, 1.0, 1.0), drawn(10, 9.0, 20.0), "90 about 1.000 and 10 about 15.0"),
            (drawn(60, 10.0, 11.0), drawn(40, 20.0, 22.0), "60 about 10.508 and 40 about 21.0"),
            (drawn(10, 1.0, 1.0), drawn(990, 9.0, 20.0), "10 about 1.000 and 990 about 14.5"),
        ] {
            rows.extend(other.into_iter().map(|row| row.into_iter().map(|number| number * 1.0001).collect::<Vec<_>>()));
            let warnings = judged(&rows).unwrap().warnings;
            assert!(warnings.len() == 1 && warnings[0].contains(says), "{warnings:?}");
        }
    }

    #[test]
    fn one_population_of_norms_is_not_taken_for_two() {
        for seed in 0..200u64 {
            let mut random = Random::keyed(seed, 0, 0, "norms");
            let norms = |random: &mut Random| (0..20 + seed as usize).map(|_| (0.2 * random.normal()).exp()).collect();
            let mut norms: Vec<f64> = norms(&mut random);
            norms.sort_unstable_by(f64::total_cmp);
            assert_eq!(two_populations(&norms), None, "seed {seed}");
        }
        // An outlier is no population.
        let mut norms: Vec<f64> = (0..99).map(|i| 1.0 + f64::from(i) * 1e-3).collect();
        norms.push(50.0);
        assert_eq!(two_populations(&norms), None);
    }

    #[test]
    fn half_precision_is_told() {
        let table = |element| judge(&table_of(&drawn(5, 1.0, 2.0), element)).unwrap().warnings;
        assert!(table(VectorElement::Float16)[0].starts_with("stored as float16, which keeps 3 digits"));
        assert!(table(VectorElement::BFloat16)[0].starts_with("stored as bfloat16"));
        assert!(table(VectorElement::Float64).is_empty());
    }
}
