//! Which optimiser, and what its constants may be.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Which optimiser, with its constants. All of them follow PyTorch's definitions of the same names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// Adam with weight decay added to the gradient (Kingma, Ba 2015).
    Adam {
        /// Step size; positive.
        learning_rate: f64,
        /// Decay of the mean of gradients, in `[0, 1)`; usually 0.9.
        beta1: f64,
        /// Decay of the mean of squares, in `[0, 1)`; usually 0.999.
        beta2: f64,
        /// Added to the root; usually 1e-8.
        epsilon: f64,
        /// L2 factor, added to the gradient; usually 0.
        weight_decay: f64,
    },
    /// Adam with decoupled weight decay (Loshchilov, Hutter 2019).
    AdamW {
        /// Step size; positive.
        learning_rate: f64,
        /// Decay of the mean of gradients, in `[0, 1)`; usually 0.9.
        beta1: f64,
        /// Decay of the mean of squares, in `[0, 1)`; usually 0.999.
        beta2: f64,
        /// Added to the root; usually 1e-8.
        epsilon: f64,
        /// Share of the weight taken off in every step, times the learning rate; usually 0.01.
        weight_decay: f64,
    },
    /// Stochastic gradient descent with momentum.
    Sgd {
        /// Step size; positive.
        learning_rate: f64,
        /// In `[0, 1)`; 0 is plain gradient descent.
        momentum: f64,
        /// Nesterov's form; needs a momentum.
        nesterov: bool,
        /// L2 factor, added to the gradient.
        weight_decay: f64,
    },
}

impl OptimizerSpec {
    /// The step size before the schedule.
    pub fn learning_rate(&self) -> f64 {
        match *self {
            OptimizerSpec::Adam { learning_rate, .. }
            | OptimizerSpec::AdamW { learning_rate, .. }
            | OptimizerSpec::Sgd { learning_rate, .. } => learning_rate,
        }
    }

    /// Checks every constant; the error names the option.
    pub fn validate(&self) -> Result<()> {
        check("learningRate", self.learning_rate(), |v| v > 0.0, "a positive number", "1e-4 is a usual one for Adam")?;
        match *self {
            OptimizerSpec::Adam { beta1, beta2, epsilon, weight_decay, .. }
            | OptimizerSpec::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
                let share = |v: f64| (0.0..1.0).contains(&v);
                check("beta1", beta1, share, "a number in [0, 1)", "0.9 is the usual one")?;
                check("beta2", beta2, share, "a number in [0, 1)", "0.999 is the usual one")?;
                check("epsilon", epsilon, |v| v > 0.0, "a positive number", "1e-8 is the usual one")?;
                check_decay(weight_decay)
            }
            OptimizerSpec::Sgd { momentum, nesterov, weight_decay, .. } => {
                check("momentum", momentum, |v| (0.0..1.0).contains(&v), "a number in [0, 1)", "0.9 is a usual one")?;
                if nesterov && momentum == 0.0 {
                    return Err(Error::new(Code::InvalidOption, "Nesterov's form needs a momentum")
                        .with_subject("nesterov")
                        .with_values("a momentum above 0", "momentum 0")
                        .with_advice("give a momentum, 0.9 for example, or leave nesterov out"));
                }
                check_decay(weight_decay)
            }
        }
    }
}

fn check_decay(weight_decay: f64) -> Result<()> {
    check("weightDecay", weight_decay, |v| v >= 0.0, "0 or a positive number", "5e-4 is a usual one for SGD")
}

/// An error unless `value` is finite and in its range.
pub(super) fn check(
    option: &str,
    value: f64,
    in_range: impl Fn(f64) -> bool,
    expected: &str,
    advice: &str,
) -> Result<()> {
    if value.is_finite() && in_range(value) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "the value is out of range")
        .with_subject(option)
        .with_values(expected, value.to_string())
        .with_advice(advice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_out_of_range_is_named() {
        let adam = |learning_rate, beta1, beta2, epsilon, weight_decay| OptimizerSpec::Adam {
            learning_rate,
            beta1,
            beta2,
            epsilon,
            weight_decay,
        };
        let sgd = |momentum, nesterov| OptimizerSpec::Sgd { learning_rate: 0.1, momentum, nesterov, weight_decay: 0.0 };
        let table = [
            (adam(0.0, 0.9, 0.999, 1e-8, 0.0), "learningRate"),
            (adam(f64::NAN, 0.9, 0.999, 1e-8, 0.0), "learningRate"),
            (adam(1e-4, 1.0, 0.999, 1e-8, 0.0), "beta1"),
            (adam(1e-4, 0.9, -0.1, 1e-8, 0.0), "beta2"),
            (adam(1e-4, 0.9, 0.999, 0.0, 0.0), "epsilon"),
            (adam(1e-4, 0.9, 0.999, 1e-8, -1.0), "weightDecay"),
            (sgd(1.0, false), "momentum"),
            (sgd(0.0, true), "nesterov"),
        ];
        for (spec, option) in table {
            let error = spec.validate().unwrap_err();
            assert_eq!((error.code, error.subject.as_deref()), (Code::InvalidOption, Some(option)));
        }
        adam(1e-4, 0.9, 0.999, 1e-8, 0.0).validate().unwrap();
        sgd(0.9, true).validate().unwrap();
    }
}
