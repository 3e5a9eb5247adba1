//! Top-K accuracy of a classifier: the share of items whose class is among the K largest logits.
//!
//! Of equal logits the one of the smaller class comes first, so a classifier that says the same of every class is right
//! only for the first K classes, and the figure is the same everywhere.

use crate::error::{Code, Error, Result};

/// The share of rows of `logits [n, classes]` whose label is among the first k, for every k of `ks`, in `[0, 1]`.
///
/// # Errors
/// `ERR_INVALID_SHAPE` if the lengths do not fit or a label has no logit, `ERR_INVALID_OPTION` for a k of 0,
/// `ERR_NON_FINITE` for a logit that is no number, `ERR_INVALID_DATA` for no rows.
pub fn top_k_accuracy(logits: &[f32], classes: usize, labels: &[u32], ks: &[usize]) -> Result<Vec<(usize, f64)>> {
    if labels.is_empty() {
        return Err(Error::new(Code::InvalidData, "there is nothing to classify").with_values("at least 1 item", "0"));
    }
    if logits.len() != labels.len() * classes {
        return Err(Error::new(Code::InvalidShape, "logits and labels do not fit together")
            .with_values(format!("{} x {classes} logits", labels.len()), format!("{} logits", logits.len())));
    }
    if ks.contains(&0) {
        return Err(Error::new(Code::InvalidOption, "the top 0 has no meaning")
            .with_subject("ks")
            .with_values("whole numbers from 1", "0"));
    }
    let mut ranks = Vec::with_capacity(labels.len());
    for (item, &label) in labels.iter().enumerate() {
        let row = &logits[item * classes..][..classes];
        let label = label as usize;
        let own = *row.get(label).ok_or_else(|| {
            Error::new(Code::InvalidShape, format!("the label of item {item} has no logit"))
                .with_values(format!("a class below {classes}"), label.to_string())
        })?;
        if row.iter().any(|logit| logit.is_nan()) {
            return Err(Error::new(Code::NonFinite, format!("a logit of item {item} is not a number"))
                .with_advice("the network is damaged or diverged; train it with a smaller learning rate"));
        }
        let before = |(class, &logit): (usize, &f32)| logit > own || (logit == own && class < label);
        ranks.push(row.iter().enumerate().filter(|&entry| before(entry)).count());
    }
    let share = |k: usize| ranks.iter().filter(|&&rank| rank < k).count() as f64 / ranks.len() as f64;
    Ok(ks.iter().map(|&k| (k, share(k))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_labels_among_the_largest() {
        let logits = [0.1, 0.9, 0.5, 3.0, 2.0, 1.0, -1.0, -3.0, -2.0];
        let found = top_k_accuracy(&logits, 3, &[2, 0, 1], &[1, 2, 3, 9]).unwrap();
        assert_eq!(found, [(1, 1.0 / 3.0), (2, 2.0 / 3.0), (3, 1.0), (9, 1.0)]);
    }

    #[test]
    fn equal_logits_are_ordered_by_class() {
        assert_eq!(top_k_accuracy(&[1.0; 8], 4, &[0, 3], &[1, 3]).unwrap(), [(1, 0.5), (3, 0.5)]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let text = |result: Result<Vec<(usize, f64)>>| result.unwrap_err().to_string();
        assert!(text(top_k_accuracy(&[1.0, 2.0], 2, &[2], &[1])).contains("a class below 2, received 2"));
        assert!(text(top_k_accuracy(&[1.0], 2, &[0], &[1])).contains("1 x 2 logits"));
        assert!(text(top_k_accuracy(&[1.0, f32::NAN], 2, &[0], &[1])).contains("not a number"));
        assert!(text(top_k_accuracy(&[1.0, 2.0], 2, &[0], &[0])).contains("top 0"));
        assert!(text(top_k_accuracy(&[], 2, &[], &[1])).contains("nothing to classify"));
    }
}
