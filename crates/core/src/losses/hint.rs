//! The hint of FitNets (Romero et al. 2015): the teacher's map from the student's, through a 1x1 convolution.
//!
//! ```text
//! L = 1/(n h w b) sum_ip |P s_ip - t_ip|^2
//! ```
//! n items, pixels p of h x w, student s `[n, h, w, a]`, teacher t `[n, h, w, b]`, regressor P `[b, a]` without bias, as
//! in the code of Park et al. 2019. Their regressors start evenly in -0.005 to 0.005 and are never given to the
//! optimiser; `frozen: true` is that. Otherwise P is learned with the network, as FitNets says, and starts as PyTorch
//! starts a convolution, in `-1/sqrt(a)` to `1/sqrt(a)`. Maps of different sizes are averaged to the smaller
//! (`maps.rs`); vectors are maps of one pixel.
//!
//! FitNets trains in two stages: hints first, then the task. Two terms whose weights follow each other do that.

use serde::{Deserialize, Serialize};

use super::maps::{self, row_shape};
use super::projection::{self, Projection};
use super::{Loss, LossInputs, LossParameter, LossValue, MapLoss, OnDevice};
use crate::error::Result;

/// Where the authors' regressors start, and stay.
const RELEASED_SPREAD: f64 = 0.005;

/// Options of `hint`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Hint {
    /// Whether the regressor stays as it was drawn, as in the authors' code.
    pub frozen: bool,
}

impl Loss for Hint {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn sees_images_alone(&self) -> bool {
        true
    }

    fn parameters(&self, student: &[usize], teacher: Option<&[usize]>) -> Result<Vec<LossParameter>> {
        let ([.., a], [.., b]) = (row_shape(student), row_shape(teacher.unwrap_or_default()));
        let spread = if self.frozen { RELEASED_SPREAD } else { 1.0 / (a as f64).sqrt() };
        Ok(vec![projection::parameter(b, a, spread)])
    }

    fn is_frozen(&self) -> bool {
        self.frozen
    }

    fn on_device(&self) -> Option<OnDevice> {
        Some(OnDevice::Map(MapLoss::Hint))
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        let [student, teacher] = maps::pair(inputs)?;
        let projection = Projection::new(inputs, teacher.channels, student.channels)?;
        let count = teacher.data.len().max(1) as f64;
        let mut difference = projection.apply(&student.data);
        difference.iter_mut().zip(teacher.data.iter()).for_each(|(y, t)| *y -= t);
        let value = difference.iter().map(|d| d * d).sum::<f64>() / count;
        difference.iter_mut().for_each(|d| *d *= 2.0 / count);
        let [gradient, map] = projection.pull_back(&student.data, &difference);
        Ok(LossValue { value, gradient: student.pull_back(gradient), parameters: vec![map] })
    }
}
