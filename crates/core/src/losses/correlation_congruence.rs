//! Correlation congruence (Peng et al., ICCV 2019): the items of a batch correlate for the student as for the teacher.
//!
//! ```text
//! L = 1/n^2 sum_ij (k(x^s_i, x^s_j) - k(x^t_i, x^t_j))^2
//! gaussian-rbf:  k = exp(-2 gamma) sum_{p = 0}^P (2 gamma)^p / p! <y_i, y_j>^p,   y = x / |x|
//! bilinear:      k = <x_i, x_j>
//! ```
//! n items, student x `[n, d_s]`, teacher `[n, d_t]`; d_s and d_t may differ, and a map `[n, h, w, c]` is one long row.
//! The first kernel is the Taylor expansion of `exp(-gamma |y_i - y_j|^2)` to the order P. With exp(-2 gamma) in front
//! it is that on rows of norm 1 only, so rows are divided by their norms here; the bilinear kernel takes them as they
//! are. Both are a polynomial k(c) of the products c of rows r (y or x):
//!
//! ```text
//! dL/dr_i = 2 sum_j w_ij r_j,   w = 2/n^2 (k(c^s) - k(c^t)) k'(c^s),   dL/dx_i = (g_i - y_i <y_i, g_i>) / |x_i|
//! ```
//! The paper lets a learned layer bring student and teacher to one length first; the matrices of both are `[n, n]`
//! whatever their lengths, so there is none here.
//!
//! Degenerate batches: a row shorter than 1e-12 correlates with none under the Gaussian (c = 0, its own c too), and
//! nothing flows to it. A student whose rows have one direction is still under the Gaussian: nothing there points
//! across it.

use serde::{Deserialize, Serialize};

use super::unit_rows::UnitRows;
use super::{Loss, LossInputs, LossValue, Matrix, gram};
use crate::error::Result;
use crate::input;

/// How two items correlate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum CorrelationKernel {
    /// The Gaussian of rows of norm 1, expanded to [`CorrelationCongruence::order`]; the paper's best.
    #[default]
    GaussianRbf,
    /// The inner product of the rows as they are.
    Bilinear,
}

/// Options of `correlation-congruence`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct CorrelationCongruence {
    /// How two items correlate.
    pub kernel: CorrelationKernel,
    /// Of the Gaussian: factor of the squared distance, above 0 and at most 100; the paper's is 0.4.
    #[serde(deserialize_with = "input::via::<input::Hundredfold, _, _>")]
    pub gamma: f64,
    /// Of the Gaussian: the highest power of its expansion, from 1 to 100; the paper's is 2.
    #[serde(deserialize_with = "input::via::<input::Whole<1, 100>, _, _>")]
    pub order: usize,
}

impl Default for CorrelationCongruence {
    fn default() -> Self {
        CorrelationCongruence { kernel: CorrelationKernel::GaussianRbf, gamma: 0.4, order: 2 }
    }
}

impl CorrelationCongruence {
    /// The kernel as a polynomial of the inner product of two rows, the constant first.
    fn coefficients(&self) -> Vec<f64> {
        let gaussian = |factor: &mut f64, p: usize| {
            let coefficient = *factor;
            *factor *= 2.0 * self.gamma / (p + 1) as f64;
            Some(coefficient)
        };
        match self.kernel {
            CorrelationKernel::GaussianRbf => (0..=self.order).scan((-2.0 * self.gamma).exp(), gaussian).collect(),
            CorrelationKernel::Bilinear => vec![0.0, 1.0],
        }
    }

    /// The rows divided by their norms, where the kernel wants that.
    fn unit(&self, x: &Matrix) -> Option<UnitRows> {
        let gaussian = self.kernel == CorrelationKernel::GaussianRbf;
        gaussian.then(|| UnitRows::new(x.data.clone(), x.columns))
    }
}

impl Loss for CorrelationCongruence {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<()> {
        let usual = CorrelationCongruence::default();
        let (option, value) = match (self.gamma == usual.gamma, self.order == usual.order) {
            (false, _) => ("gamma", self.gamma.to_string()),
            (true, false) => ("order", self.order.to_string()),
            (true, true) => return Ok(()),
        };
        if self.kernel == CorrelationKernel::GaussianRbf {
            return Ok(());
        }
        Err(input::invalid(option, "the kernel \"gaussian-rbf\" with it", value)
            .with_advice("leave the option out, or the kernel: the bilinear one has no such option"))
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let (team, student, teacher) = (inputs.team, inputs.student, inputs.teacher()?);
        let (unit, unit_teacher) = (self.unit(student), self.unit(teacher));
        let rows = unit.as_ref().map_or(&student.data, |unit| &unit.data);
        let teacher_rows = unit_teacher.as_ref().map_or(&teacher.data, |unit| &unit.data);
        let coefficients = self.coefficients();
        let share = 1.0 / (student.rows * student.rows).max(1) as f64;
        let mut value = 0.0;
        let mut weights = gram::products(team, rows, rows, student.columns);
        let others = gram::products(team, teacher_rows, teacher_rows, teacher.columns);
        for (weight, other) in weights.iter_mut().zip(others) {
            let (s, slope) = polynomial(&coefficients, *weight);
            let difference = s - polynomial(&coefficients, other).0;
            value += difference * difference;
            // Twice, for c_ij and c_ji move together.
            *weight = 2.0 * 2.0 * share * difference * slope;
        }
        let mut gradient = gram::combine(team, &weights, rows, student.columns);
        if let Some(unit) = &unit {
            unit.pull_back(&mut gradient);
        }
        Ok(LossValue::new(share * value, gradient))
    }
}

/// `sum_p coefficients_p x^p` and its derivative.
fn polynomial(coefficients: &[f64], x: f64) -> (f64, f64) {
    coefficients.iter().rev().fold((0.0, 0.0), |(value, slope), term| (value * x + term, slope * x + value))
}

#[cfg(test)]
mod tests {
    use super::super::naive;
    use super::*;

    /// The loss of a kernel, pair by pair.
    fn definition(student: &Matrix, teacher: &Matrix, kernel: impl Fn(&[f64], &[f64]) -> f64) -> f64 {
        let n = student.rows;
        let pairs = (0..n * n).map(|pair| (pair / n, pair % n));
        let differences =
            pairs.map(|(i, j)| kernel(student.row(i), student.row(j)) - kernel(teacher.row(i), teacher.row(j)));
        differences.map(|difference| difference * difference).sum::<f64>() / (n * n) as f64
    }

    fn cosine(a: &[f64], b: &[f64]) -> f64 {
        naive::product(a, b) / (naive::product(a, a) * naive::product(b, b)).sqrt()
    }

    #[test]
    fn equals_its_definition_over_pairs() {
        let (student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        let taylor = |a: &[f64], b: &[f64]| {
            let c = cosine(a, b);
            (-0.8f64).exp() * (1.0 + 0.8 * c + 0.8 * 0.8 / 2.0 * c * c)
        };
        let loss = CorrelationCongruence::default();
        naive::expect(&loss, &student, Some(&teacher), definition(&student, &teacher, taylor));
        let loss = CorrelationCongruence { kernel: CorrelationKernel::Bilinear, ..loss };
        naive::expect(&loss, &student, Some(&teacher), definition(&student, &teacher, naive::product));
    }

    #[test]
    fn a_high_order_is_the_gaussian_itself() {
        let (student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        let gaussian = |a: &[f64], b: &[f64]| (-1.5 * (2.0 - 2.0 * cosine(a, b))).exp();
        let loss = CorrelationCongruence { gamma: 1.5, order: 40, ..CorrelationCongruence::default() };
        naive::expect(&loss, &student, Some(&teacher), definition(&student, &teacher, gaussian));
    }

    #[test]
    fn a_row_of_zeros_correlates_with_none_and_gets_nothing() {
        let (mut student, teacher) = (naive::draw("student"), naive::draw("teacher"));
        student.data[10..15].fill(0.0);
        let found = naive::evaluate(&CorrelationCongruence::default(), &student, Some(&teacher));
        assert!(found.is_finite() && found.gradient[10..15] == [0.0; 5]);
        assert!(found.gradient[..10].iter().all(|g| *g != 0.0 && g.abs() < 1.0));
    }

    #[test]
    fn the_widest_gaussian_of_the_highest_order_is_finite() {
        let loss = CorrelationCongruence { gamma: 100.0, order: 100, ..CorrelationCongruence::default() };
        loss.validate().unwrap();
        assert!(loss.coefficients().iter().all(|&a| a > 0.0 && a < 1.0));
    }
}
