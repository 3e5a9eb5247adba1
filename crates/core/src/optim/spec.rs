//! Which optimiser, and what its constants may be.

use crate::error::{Code, Error, Result};
use crate::input::{NotNegative, Positive, Share, tagged, via};

tagged! {
    /// An optimiser with its constants. All follow PyTorch's definitions and defaults of the same names, except the learning
    /// rate.
    "what adam(), adamW() or sgd() return",
    "Optimizer",
    pub enum OptimizerSpec {
        /// Adam with weight decay added to the gradient (Kingma, Ba 2015).
        "adam" => Adam {
            /// Step size, greater than 0. @default 1e-3
            #[serde(default = "adaptive_rate", deserialize_with = "via::<Positive, _, _>")]
            learning_rate: f64,
            /// Decay of the mean of gradients, in [0, 1). @default 0.9
            #[serde(default = "nine_tenths", deserialize_with = "via::<Share, _, _>")]
            beta1: f64,
            /// Decay of the mean of squares, in [0, 1). @default 0.999
            #[serde(default = "beta2", deserialize_with = "via::<Share, _, _>")]
            beta2: f64,
            /// Added to the root, greater than 0. @default 1e-8
            #[serde(default = "epsilon", deserialize_with = "via::<Positive, _, _>")]
            epsilon: f64,
            /// L2 factor, added to the gradient, at least 0. @default 0
            #[serde(default = "f64::default", deserialize_with = "via::<NotNegative, _, _>")]
            weight_decay: f64,
        },
        /// Adam with decoupled weight decay (Loshchilov, Hutter 2019).
        "adam-w" => AdamW {
            /// Step size, greater than 0. @default 1e-3
            #[serde(default = "adaptive_rate", deserialize_with = "via::<Positive, _, _>")]
            learning_rate: f64,
            /// Decay of the mean of gradients, in [0, 1). @default 0.9
            #[serde(default = "nine_tenths", deserialize_with = "via::<Share, _, _>")]
            beta1: f64,
            /// Decay of the mean of squares, in [0, 1). @default 0.999
            #[serde(default = "beta2", deserialize_with = "via::<Share, _, _>")]
            beta2: f64,
            /// Added to the root, greater than 0. @default 1e-8
            #[serde(default = "epsilon", deserialize_with = "via::<Positive, _, _>")]
            epsilon: f64,
            /// Share of the weight taken off in every step, times the learning rate, at least 0. @default 0.01
            #[serde(default = "hundredth", deserialize_with = "via::<NotNegative, _, _>")]
            weight_decay: f64,
        },
        /// Stochastic gradient descent with momentum.
        "sgd" => Sgd {
            /// Step size, greater than 0. @default 0.05
            #[serde(default = "sgd_rate", deserialize_with = "via::<Positive, _, _>")]
            learning_rate: f64,
            /// In [0, 1); 0 is plain gradient descent. @default 0.9
            #[serde(default = "nine_tenths", deserialize_with = "via::<Share, _, _>")]
            momentum: f64,
            /// Nesterov's form; needs a momentum. @default false
            #[serde(default = "bool::default")]
            nesterov: bool,
            /// L2 factor, added to the gradient, at least 0. @default 0
            #[serde(default = "f64::default", deserialize_with = "via::<NotNegative, _, _>")]
            weight_decay: f64,
        },
    }
}

fn adaptive_rate() -> f64 {
    1e-3
}

fn sgd_rate() -> f64 {
    0.05
}

fn nine_tenths() -> f64 {
    0.9
}

fn beta2() -> f64 {
    0.999
}

fn epsilon() -> f64 {
    1e-8
}

fn hundredth() -> f64 {
    0.01
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

    /// The same optimiser with another step size.
    pub fn with_learning_rate(mut self, rate: f64) -> Self {
        match &mut self {
            OptimizerSpec::Adam { learning_rate, .. }
            | OptimizerSpec::AdamW { learning_rate, .. }
            | OptimizerSpec::Sgd { learning_rate, .. } => *learning_rate = rate,
        }
        self
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
