//! Attention transfer (Zagoruyko, Komodakis 2017): where the student looks should be where the teacher looks.
//!
//! ```text
//! q_ip = 1/c sum_k x_ipk^2,   a_i = q_i / max(|q_i|, 1e-12),   L = 1/(n h w) sum_ip (a^s_ip - a^t_ip)^2
//! dL/dq_i = (g_i - a_i <a_i, g_i>) / |q_i|,   g = 2 (a^s - a^t) / (n h w),   dL/dx_ipk = dL/dq_ip 2 x_ipk / c
//! ```
//! n items, pixels p of h x w, channels k; maps `[n, h, w, c]` whose c may differ. The mean over all n h w entries is that
//! of the code of Park et al. 2019, whose weight 50 assumes it; the first paper has the norm of each item's difference.
//! Maps of different sizes are averaged to the smaller (`maps.rs`). A map that is zero everywhere attends to nothing:
//! a = 0, with no gradient. On maps of one pixel every attention is 1: the loss refuses them, and vectors.

use serde::{Deserialize, Serialize};

use super::maps::{self, Maps};
use super::{Loss, LossInputs, LossValue, MapLoss, Matrix, OnDevice};
use crate::error::{Code, Error, Result};

/// Smallest norm that divides, PyTorch's.
const SMALLEST: f64 = 1e-12;

/// Options of `attention-transfer`: none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(deny_unknown_fields)]
pub struct AttentionTransfer {}

impl Loss for AttentionTransfer {
    fn needs_teacher(&self) -> bool {
        true
    }

    fn sees_images_alone(&self) -> bool {
        true
    }

    fn needs_maps(&self) -> bool {
        true
    }

    fn on_device(&self) -> Option<OnDevice> {
        Some(OnDevice::Map(MapLoss::AttentionTransfer))
    }

    fn evaluate(&self, inputs: &LossInputs<'_>) -> Result<LossValue> {
        check_map("student", inputs.student)?;
        check_map("teacher", inputs.teacher()?)?;
        let [student, teacher] = maps::pair(inputs)?;
        check_pixels(student.size)?;
        let (s, norms) = attention(&student);
        let (t, _) = attention(&teacher);
        let (count, pixels) = (s.len().max(1) as f64, student.size[0] * student.size[1]);
        let value = s.iter().zip(&t).map(|(s, t)| (s - t) * (s - t)).sum::<f64>() / count;
        let mut gradient = Vec::with_capacity(student.data.len());
        for (i, norm) in norms.iter().enumerate() {
            let range = i * pixels..(i + 1) * pixels;
            let (s, t) = (&s[range.clone()], &t[range.clone()]);
            let g: Vec<f64> = s.iter().zip(t).map(|(s, t)| 2.0 * (s - t) / count).collect();
            // Below the smallest norm the division is by a constant.
            let along = if *norm > SMALLEST { s.iter().zip(&g).map(|(s, g)| s * g).sum::<f64>() } else { 0.0 };
            let slopes = s.iter().zip(&g).map(|(s, g)| (g - s * along) / norm.max(SMALLEST));
            let values = student.data[range.start * student.channels..].chunks_exact(student.channels);
            for (slope, x) in slopes.zip(values) {
                gradient.extend(x.iter().map(|x| slope * 2.0 * x / student.channels as f64));
            }
        }
        Ok(LossValue::new(value, student.pull_back(gradient)))
    }
}

/// The attention `[n, h w]` and the norm of each item's map before it was divided.
fn attention(maps: &Maps<'_>) -> (Vec<f64>, Vec<f64>) {
    let square = |pixel: &[f64]| pixel.iter().map(|x| x * x).sum::<f64>() / maps.channels as f64;
    let mut q: Vec<f64> = maps.data.chunks_exact(maps.channels).map(square).collect();
    let mut norms = Vec::new();
    for q in q.chunks_exact_mut(maps.size[0] * maps.size[1]) {
        let norm = q.iter().map(|q| q * q).sum::<f64>().sqrt();
        q.iter_mut().for_each(|q| *q /= norm.max(SMALLEST));
        norms.push(norm);
    }
    (q, norms)
}

/// On a single pixel every attention is 1, so the loss and its gradient would be 0 whatever the student does.
pub(crate) fn check_pixels([height, width]: [usize; 2]) -> Result<()> {
    if height * width != 1 {
        return Ok(());
    }
    Err(Error::new(Code::InvalidShape, "attention transfer compares maps, and these have one pixel in common")
        .with_subject("student")
        .with_values("maps of more than one pixel", "1 x 1")
        .with_advice("point the loss at an earlier tap, for example blocks.2 or layer3"))
}

fn check_map(name: &str, feature: &Matrix) -> Result<()> {
    if feature.map.is_some() {
        return Ok(());
    }
    Err(Error::new(Code::InvalidShape, "attention transfer compares maps")
        .with_subject(name)
        .with_values("a map of channels, height and width for every item", format!("{} numbers", feature.columns))
        .with_advice("point the loss at a tap inside the network, for example blocks.3 or layer3"))
}
