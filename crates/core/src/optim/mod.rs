//! Optimisers, learning-rate schedules and gradient clipping.

use serde::{Deserialize, Serialize};

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

/// The learning rate over the run, as a factor of the optimiser's. Lengths are in steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum ScheduleSpec {
    /// The same all along, after a linear warm-up.
    Constant {
        /// Steps over which the rate grows linearly from 0; 0 is none.
        warmup_steps: u64,
    },
    /// Multiplied by `factor` at every milestone.
    Step {
        /// Steps over which the rate grows linearly from 0; 0 is none.
        warmup_steps: u64,
        /// Steps (counted from 0) from which on the rate is multiplied once more.
        milestones: Vec<u64>,
        /// Usually 0.1.
        factor: f64,
    },
    /// Half a cosine from 1 to `minimum` over the whole run (Loshchilov, Hutter 2017).
    Cosine {
        /// Steps over which the rate grows linearly from 0; 0 is none.
        warmup_steps: u64,
        /// The last factor, in `[0, 1]`; usually 0.
        minimum: f64,
    },
}
