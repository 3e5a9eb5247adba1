//! Fine-tuning: which parameters of a network learn and how fast, and what else is only of its training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::parameters::{Layout, ParameterSpec};
use super::pattern::{choose, chooses};
use crate::error::{Code, Error, Result};

/// Which parameters are trained and how fast, and what of a pass is only of training. Patterns choose parameters by name, see
/// [`super::pattern`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct TuningPlan {
    /// Patterns of parameters that stay as they are.
    pub freeze: Vec<String>,
    /// Factors on the learning rate by pattern, greater than 0; no parameter may be chosen by two.
    pub learning_rates: BTreeMap<String, f64>,
    /// What batch normalisation subtracts and divides by in training.
    pub batch_norm: TrainingStatistics,
    /// Share of the pooled feature's numbers that are left out at random before the embedding layer (without one, before the
    /// classifier), in `[0, 1)`.
    pub dropout: f64,
    /// Share of images for which the last residual block is left out at random, in `[0, 1)`; that of the blocks before it
    /// rises evenly from 0: stochastic depth.
    pub drop_path: f64,
}

/// The statistics of batch normalisation in training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum TrainingStatistics {
    /// Those of the images that go through the network at once; the running ones follow.
    #[default]
    Batch,
    /// Those of the whole batch, of all its micro batches on all ranks; the running ones follow. See [`super::synchronised`].
    Sync,
    /// The running ones, which stay as they are.
    Running,
}

/// Sets the rate of every parameter: 0 where a pattern of `freeze` chooses it, else its factor, else 1.
///
/// # Errors
/// `ERR_INVALID_OPTION` for a pattern that chooses nothing, a factor that is not positive, a parameter with two factors,
/// and a plan that leaves nothing to train.
pub fn set_rates(specs: &mut [ParameterSpec], tuning: &TuningPlan) -> Result<()> {
    let mut parameters: Vec<&mut ParameterSpec> =
        specs.iter_mut().filter(|spec| spec.layout != Layout::Statistic).collect();
    let names: Vec<String> = parameters.iter().map(|spec| spec.name.clone()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let frozen = choose("freeze", &tuning.freeze, &names)?;
    let patterns: Vec<String> = tuning.learning_rates.keys().cloned().collect();
    choose("learningRates", &patterns, &names)?;
    for (pattern, factor) in &tuning.learning_rates {
        if !(factor.is_finite() && *factor > 0.0) {
            return Err(Error::new(Code::InvalidOption, "the value is out of range")
                .with_subject(format!("learningRates[{pattern:?}]"))
                .with_values("a factor greater than 0", factor.to_string())
                .with_advice("to keep parameters as they are, use freeze"));
        }
    }
    for (spec, frozen) in parameters.iter_mut().zip(frozen) {
        let factors: Vec<_> =
            tuning.learning_rates.iter().filter(|(pattern, _)| chooses(pattern, &spec.name)).collect();
        spec.rate = match factors.as_slice() {
            _ if frozen => 0.0,
            [] => 1.0,
            [(_, factor)] => **factor,
            [(first, _), (second, _), ..] => {
                return Err(Error::new(Code::InvalidOption, format!("two factors belong to {}", spec.name))
                    .with_subject("learningRates")
                    .with_values("one pattern for each parameter", format!("{first:?} and {second:?}"))
                    .with_advice("make the patterns narrower"));
            }
        };
    }
    if parameters.iter().all(|spec| spec.rate == 0.0) {
        return Err(Error::new(Code::InvalidOption, "every parameter is frozen")
            .with_subject("freeze")
            .with_values("a pattern that leaves some parameters to train", tuning.freeze.join(", "))
            .with_advice("freeze less; to measure a network without training it, use evaluate"));
    }
    Ok(())
}
