//! A loss on the first numbers of the student's embedding too, so that one network serves embeddings of several lengths:
//! Matryoshka representation learning (Kusupati et al. 2022, "Matryoshka Representation Learning", equation 1).
//!
//! ```text
//! L = 1/(m + 1) (l(z) + sum_k l(u_k)),   u_k = z[..k], or z[..k] / |z[..k]| row by row
//! ```
//! z the student's embedding `[n, d]`, k each of the m lengths, l the loss of a term that reads the embedding. The paper
//! adds; the mean (its importances c = 1/(m + 1)) keeps the size of a term beside those that read other features. The
//! teacher's feature is always whole. Numbers that l learns are learnt for each prefix: a linear hint has a map of k
//! columns. Random choices of a batch are drawn from the same stream for each.
//!
//! Where the network normalises its embedding, a prefix of that has not the norm 1: it is divided by its own, in float64, and
//! the gradient goes through the division, as in [`Normalized`](super::normalized). A term's own `normalize` divides
//! every prefix by its own norm anyway.
//!
//! A term that by itself reads the logits (cross entropy, soft targets) has a classifier of its own on each prefix:
//!
//! ```text
//! L = 1/(m + 1) (l(logits) + sum_k l(u_k W_k^T + b_k))
//! ```
//! W_k `[C, k]` and b_k `[1, C]` start as PyTorch's linear layer does, evenly in `-1/sqrt(k)` to `1/sqrt(k)`, are learnt with the
//! network and are no part of the model.

use super::normalized::{normalize, pull_back};
use super::projection::Projection;
use super::{Feature, Loss, LossInputs, LossParameter, LossValue, Matrix};
use crate::error::Result;
use crate::tensor::Init;

/// The prefixes of the embedding that a term is evaluated on besides the whole.
pub struct Prefixes {
    lengths: Vec<usize>,
    /// Whether each is divided by its norm.
    unit: bool,
    /// Whether the loss sees the logits of a classifier on each.
    classifier: bool,
}

impl Prefixes {
    /// The prefixes of `lengths` for a term with `loss` that reads `feature` of the student; `None` where it has to do
    /// with no embedding. `unit`: whether the network's embeddings have the norm 1.
    pub fn of(loss: &dyn Loss, feature: &Feature, lengths: &[usize], unit: bool) -> Option<Prefixes> {
        let classifier = *feature == Feature::Logits && loss.reads() == Feature::Logits;
        let reads = classifier || *feature == Feature::Embedding;
        (reads && !lengths.is_empty()).then(|| Prefixes { lengths: lengths.to_vec(), unit, classifier })
    }

    /// Whether they need the embedding beside what the term reads.
    pub fn has_classifiers(&self) -> bool {
        self.classifier
    }

    /// What `loss` learns of each prefix, with its length, for features of these shapes: those that the term reads.
    ///
    /// # Errors
    /// Those of [`Loss::parameters`].
    pub fn parameters(
        &self,
        loss: &dyn Loss,
        student: &[usize],
        teacher: Option<&[usize]>,
    ) -> Result<Vec<(usize, LossParameter)>> {
        let mut all = Vec::new();
        for &length in &self.lengths {
            let rows = student.first().copied().unwrap_or_default();
            let seen = if self.classifier { student.to_vec() } else { vec![rows, length] };
            all.extend(loss.parameters(&seen, teacher)?.into_iter().map(|parameter| (length, parameter)));
            if self.classifier {
                let (classes, init) = (seen[seen.len() - 1], Init::Uniform { bound: 1.0 / (length as f64).sqrt() });
                let weight = LossParameter { name: "weight", rows: classes, columns: length, init };
                let bias = LossParameter { name: "bias", rows: 1, columns: classes, init };
                all.extend([(length, weight), (length, bias)]);
            }
        }
        Ok(all)
    }

    /// `loss` on the term's own feature, `inputs.student`, and on each prefix of `embedding`. `parameters` are those of
    /// the whole, then those of [`Prefixes::parameters`]. Gives L with its gradient with respect to the term's own
    /// feature and, where that is the logits, the gradient with respect to the embedding.
    ///
    /// # Errors
    /// Those of [`Loss::evaluate`].
    pub fn evaluate(
        &self,
        loss: &dyn Loss,
        inputs: &LossInputs<'_>,
        embedding: &Matrix,
        parameters: &[Matrix],
    ) -> Result<(LossValue, Option<Vec<f64>>)> {
        let (own, learnt) = (if self.classifier { 2 } else { 0 }, parameters.len());
        let each = learnt.saturating_sub(own * self.lengths.len()) / (self.lengths.len() + 1);
        let (whole, mut rest) = parameters.split_at(each);
        let mut total = loss.evaluate(&inputs.clone().with_parameters(whole))?;
        let mut gradient = vec![0.0; embedding.data.len()];
        for &length in &self.lengths {
            let (of_prefix, others) = rest.split_at(rest.len().min(each + own));
            rest = others;
            let found = self.evaluate_one(loss, inputs, &prefix(embedding, length)?, of_prefix)?;
            total.value += found.value;
            total.parameters.extend(found.parameters);
            let rows = gradient.chunks_exact_mut(embedding.columns).zip(found.gradient.chunks_exact(length));
            rows.for_each(|(sum, row)| sum.iter_mut().zip(row).for_each(|(sum, g)| *sum += g));
        }
        if !self.classifier {
            total.gradient.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += g);
        }
        let share = 1.0 / (self.lengths.len() + 1) as f64;
        total.value *= share;
        let numbers = total.parameters.iter_mut().chain([&mut total.gradient, &mut gradient]);
        numbers.flatten().for_each(|number| *number *= share);
        Ok((total, self.classifier.then_some(gradient)))
    }

    /// The loss on one prefix, with its gradient with respect to that.
    fn evaluate_one(
        &self,
        loss: &dyn Loss,
        inputs: &LossInputs<'_>,
        prefix: &Matrix,
        parameters: &[Matrix],
    ) -> Result<LossValue> {
        let unit = self.unit.then(|| normalize(prefix));
        let seen = unit.as_ref().map_or(prefix, |(rows, _)| rows);
        let mut inputs = inputs.clone();
        let mut found = if self.classifier {
            let (learnt, classifier) = parameters.split_at(parameters.len().saturating_sub(2));
            inputs = inputs.with_parameters(classifier);
            let (weight, bias) = (inputs.parameter(0)?, inputs.parameter(1)?);
            let classifier = Projection::of(weight, inputs.team);
            let mut logits = classifier.apply(&seen.data);
            let rows = logits.chunks_exact_mut(bias.columns);
            rows.for_each(|row| row.iter_mut().zip(&bias.data).for_each(|(logit, b)| *logit += b));
            let logits = Matrix::owned("student", logits, &[seen.rows, bias.columns])?;
            inputs.student = &logits;
            let LossValue { value, gradient, mut parameters } = loss.evaluate(&inputs.with_parameters(learnt))?;
            let [of_prefix, of_weight] = classifier.pull_back(&seen.data, &gradient);
            let mut of_bias = vec![0.0; bias.columns];
            let rows = gradient.chunks_exact(bias.columns);
            rows.for_each(|row| of_bias.iter_mut().zip(row).for_each(|(sum, g)| *sum += g));
            parameters.extend([of_weight, of_bias]);
            LossValue { value, gradient: of_prefix, parameters }
        } else {
            inputs.student = seen;
            loss.evaluate(&inputs.with_parameters(parameters))?
        };
        if let Some((rows, norms)) = &unit {
            pull_back(&mut found.gradient, rows, norms);
        }
        Ok(found)
    }
}

/// The first `length` numbers of every row.
fn prefix(embedding: &Matrix, length: usize) -> Result<Matrix> {
    let rows = embedding.data.chunks_exact(embedding.columns);
    let data = rows.flat_map(|row| &row[..length.min(row.len())]).copied().collect();
    Matrix::owned("student", data, &[embedding.rows, length])
}

#[cfg(test)]
mod tests {
    use rkd_kernels::Team;
    use serde_json::{Value, json};

    use super::super::{TermSpec, naive};
    use super::*;
    use crate::random::Random;

    const LENGTHS: [usize; 2] = [2, 3];

    /// A term on a batch, with all that it learns.
    struct Case {
        loss: Box<dyn Loss>,
        prefixes: Prefixes,
        feature: Feature,
        embedding: Matrix,
        logits: Matrix,
        teacher: Matrix,
        parameters: Vec<Matrix>,
    }

    impl Case {
        fn new(term: Value, unit: bool) -> Case {
            let spec: TermSpec = serde_json::from_value(term).unwrap();
            let loss = spec.build();
            let feature = spec.student_feature.clone().unwrap_or_else(|| loss.reads());
            let prefixes = Prefixes::of(&*loss, &feature, &LENGTHS, unit).unwrap();
            let (mut embedding, logits, teacher) =
                (naive::draw("student"), naive::draw("logits"), naive::draw("teacher"));
            if unit {
                embedding = normalize(&embedding).0;
            }
            let mut specs = loss.parameters(&[11, 5], Some(&[11, 5])).unwrap();
            let more = prefixes.parameters(&*loss, &[11, 5], Some(&[11, 5])).unwrap();
            specs.extend(more.into_iter().map(|(_, parameter)| parameter));
            let value = |(place, spec): (usize, LossParameter)| {
                let mut random = Random::keyed(3, place as u64, 0, "parameters");
                let data: Vec<f64> = (0..spec.rows * spec.columns).map(|_| 1.0 + 0.3 * random.normal()).collect();
                Matrix::new(spec.name, &data, spec.rows, spec.columns).unwrap()
            };
            let parameters = specs.into_iter().enumerate().map(value).collect();
            Case { loss, prefixes, feature, embedding, logits, teacher, parameters }
        }

        fn evaluate(&self) -> (LossValue, Option<Vec<f64>>) {
            let team = Team::new(2);
            let read = if self.feature == Feature::Logits { &self.logits } else { &self.embedding };
            let inputs = LossInputs::new(read, &team, Random::keyed(0, 0, 0, "naive")).with_labels(&naive::LABELS);
            let inputs = inputs.with_teacher(&self.teacher);
            self.prefixes.evaluate(&*self.loss, &inputs, &self.embedding, &self.parameters).unwrap()
        }

        /// The loss alone on `student`.
        fn alone(&self, student: &Matrix, parameters: &[Matrix]) -> f64 {
            let team = Team::new(1);
            let inputs = LossInputs::new(student, &team, Random::keyed(0, 0, 0, "naive")).with_labels(&naive::LABELS);
            self.loss.evaluate(&inputs.with_teacher(&self.teacher).with_parameters(parameters)).unwrap().value
        }

        fn check(&mut self, name: &str, gradient: &[f64], of: impl Fn(&mut Case) -> &mut Vec<f64>) {
            let largest = gradient.iter().fold(1e-3_f64, |largest, g| largest.max(g.abs()));
            for (place, expected) in gradient.iter().enumerate() {
                let mut at = |step: f64| {
                    of(self)[place] += step;
                    // A change of the matrix behind its cache of distances.
                    self.embedding = self.embedding.clone();
                    self.logits = self.logits.clone();
                    let value = self.evaluate().0.value;
                    of(self)[place] -= step;
                    value
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((numeric - expected).abs() < 1e-6 * largest, "{name}[{place}]: {numeric} {expected}");
            }
        }
    }

    fn cases() -> Vec<Case> {
        let terms = [
            json!({ "kind": "rkd-distance" }),
            json!({ "kind": "rkd-angle", "normalize": true }),
            json!({ "kind": "linear-hint" }),
            json!({ "kind": "margin", "negatives": "all", "learnBeta": true }),
            json!({ "kind": "cross-entropy" }),
            json!({ "kind": "soft-target-kl" }),
        ];
        let both = |term: &Value| [Case::new(term.clone(), false), Case::new(term.clone(), true)];
        terms.iter().flat_map(both).collect()
    }

    #[test]
    fn gradients_are_numeric_gradients() {
        for mut case in cases() {
            let (value, embedding) = case.evaluate();
            let name = format!("{} {}", case.feature.name(), case.prefixes.unit);
            match embedding {
                Some(gradient) => {
                    case.check(&format!("{name} logits"), &value.gradient, |case| &mut case.logits.data);
                    case.check(&name, &gradient, |case| &mut case.embedding.data);
                }
                None => case.check(&name, &value.gradient, |case| &mut case.embedding.data),
            }
            assert_eq!(value.parameters.len(), case.parameters.len(), "{name}");
            for (place, gradient) in value.parameters.iter().enumerate() {
                case.check(&format!("{name} parameter {place}"), gradient, |case| &mut case.parameters[place].data);
            }
        }
    }

    #[test]
    fn equals_its_definition() {
        for case in cases() {
            let mut parameters = case.parameters.iter();
            let own = case.loss.parameters(&[11, 5], Some(&[11, 5])).unwrap().len();
            let mut next = |count: usize| parameters.by_ref().take(count).cloned().collect::<Vec<_>>();
            let read = if case.feature == Feature::Logits { &case.logits } else { &case.embedding };
            let mut sum = case.alone(read, &next(own));
            for length in LENGTHS {
                let mut rows: Vec<Vec<f64>> = (0..11).map(|i| case.embedding.row(i)[..length].to_vec()).collect();
                if case.prefixes.unit {
                    for row in &mut rows {
                        let norm = naive::product(row, row).sqrt();
                        row.iter_mut().for_each(|v| *v /= norm);
                    }
                }
                let learnt = next(own);
                if case.prefixes.classifier {
                    let [weight, bias] = next(2).try_into().unwrap();
                    let logit = |row: &Vec<f64>, c: usize| naive::product(weight.row(c), row) + bias.data[c];
                    rows = rows.iter().map(|row| (0..5).map(|c| logit(row, c)).collect()).collect();
                }
                let seen = Matrix::new("student", &rows.concat(), 11, rows[0].len()).unwrap();
                sum += case.alone(&seen, &learnt);
            }
            let found = case.evaluate().0.value;
            assert!(sum > 0.0 && (found - sum / 3.0).abs() <= 1e-12 * sum, "{found} {}", sum / 3.0);
        }
    }

    #[test]
    fn only_terms_of_the_embedding_and_classifiers_have_prefixes() {
        let of = |term: Value, lengths: &[usize]| {
            let spec: TermSpec = serde_json::from_value(term).unwrap();
            let loss = spec.build();
            let feature = spec.student_feature.clone().unwrap_or_else(|| loss.reads());
            Prefixes::of(&*loss, &feature, lengths, false).map(|prefixes| prefixes.has_classifiers())
        };
        assert_eq!(of(json!({ "kind": "rkd-angle" }), &[2]), Some(false));
        assert_eq!(of(json!({ "kind": "cross-entropy" }), &[2]), Some(true));
        assert_eq!(of(json!({ "kind": "rkd-angle", "studentFeature": "pooled" }), &[2]), None);
        assert_eq!(of(json!({ "kind": "rkd-angle", "studentFeature": "logits" }), &[2]), None);
        assert_eq!(of(json!({ "kind": "rkd-angle" }), &[]), None);
    }
}
