//! The learning rate over a run.
//!
//! Steps count from 0. A warm-up of w steps multiplies step s by (s + 1) / (w + 1): linear from 0, which no step has, to
//! 1 at step w.

use serde::{Deserialize, Deserializer};

use super::spec::check;
use crate::error::{Code, Error, Result};
use crate::input::{At, Factor, Unit, Whole, carry, invalid, show, tagged, via};

tagged! {
    /// The learning rate over the run, as a factor of the optimiser's. Lengths are in steps (batches).
    "what constant(), cosine() or step() return",
    "Schedule",
    pub enum ScheduleSpec {
        /// The same rate all along, after the warm-up.
        "constant" => Constant {
            /// Steps over which the rate grows linearly from 0; 0 is none. @default 0
            #[serde(default = "u64::default", deserialize_with = "via::<Whole<0>, _, _>")]
            warmup_steps: u64,
        },
        /// Multiplied by `factor` at every milestone.
        "step" => Step {
            /// Steps over which the rate grows linearly from 0; 0 is none. @default 0
            #[serde(default = "u64::default", deserialize_with = "via::<Whole<0>, _, _>")]
            warmup_steps: u64,
            /// Steps, counted from 0 and rising, from which on the rate is multiplied once more.
            #[serde(deserialize_with = "milestones")]
            milestones: Vec<u64>,
            /// The factor at each milestone, in (0, 1]. @default 0.1
            #[serde(default = "tenth", deserialize_with = "via::<Factor, _, _>")]
            factor: f64,
        },
        /// Half a cosine from 1 to `minimum` over the whole run (Loshchilov, Hutter 2017).
        "cosine" => Cosine {
            /// Steps over which the rate grows linearly from 0; 0 is none. @default 0
            #[serde(default = "u64::default", deserialize_with = "via::<Whole<0>, _, _>")]
            warmup_steps: u64,
            /// The last factor, in [0, 1]. @default 0
            #[serde(default = "f64::default", deserialize_with = "via::<Unit, _, _>")]
            minimum: f64,
        },
    }
}

fn tenth() -> f64 {
    0.1
}

fn milestones<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    let at = At::deserialize(deserializer)?;
    if at.value.as_array().is_none_or(Vec::is_empty) {
        let expected = "a list of steps, for example [1000, 2000]";
        return Err(carry(invalid(&at.path, expected, show(&at.value))));
    }
    let steps: Vec<u64> = at.read::<Vec<Whole<0>>>().map_err(carry)?.into_iter().map(Into::into).collect();
    match steps.windows(2).position(|pair| pair[1] <= pair[0]) {
        None => Ok(steps),
        Some(i) => {
            let expected = format!("a whole number at least {}", steps[i] + 1);
            Err(carry(invalid(format!("{}[{}]", at.path, i + 1), expected, steps[i + 1].to_string())))
        }
    }
}

impl ScheduleSpec {
    /// The factor of step `step` (from 0) in a run of `total_steps`.
    pub fn factor(&self, step: u64, total_steps: u64) -> f64 {
        let warmup = self.warmup_steps();
        let rise = (step.min(warmup) + 1) as f64 / (warmup + 1) as f64;
        rise * match self {
            ScheduleSpec::Constant { .. } => 1.0,
            ScheduleSpec::Step { milestones, factor, .. } => {
                factor.powi(milestones.iter().filter(|&&milestone| milestone <= step).count() as i32)
            }
            ScheduleSpec::Cosine { minimum, .. } => {
                // As PyTorch's CosineAnnealingLR: the minimum would be reached at step `total_steps`.
                let length = total_steps.saturating_sub(warmup).max(1) as f64;
                let progress = (step.saturating_sub(warmup) as f64 / length).min(1.0);
                minimum + (1.0 - minimum) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }

    /// Checks the constants; the error names the option.
    pub fn validate(&self) -> Result<()> {
        match self {
            ScheduleSpec::Constant { .. } => Ok(()),
            ScheduleSpec::Step { milestones, factor, .. } => {
                check("factor", *factor, |v| v > 0.0 && v <= 1.0, "a number in (0, 1]", "0.1 is the usual one")?;
                if milestones.is_sorted_by(|a, b| a < b) {
                    return Ok(());
                }
                Err(Error::new(Code::InvalidOption, "the milestones are not in order")
                    .with_subject("milestones")
                    .with_values("steps that rise", format!("{milestones:?}"))
                    .with_advice("sort them and leave duplicates out"))
            }
            ScheduleSpec::Cosine { minimum, .. } => {
                check("minimum", *minimum, |v| (0.0..=1.0).contains(&v), "a number in [0, 1]", "0 is the usual one")
            }
        }
    }

    fn warmup_steps(&self) -> u64 {
        match *self {
            ScheduleSpec::Constant { warmup_steps }
            | ScheduleSpec::Step { warmup_steps, .. }
            | ScheduleSpec::Cosine { warmup_steps, .. } => warmup_steps,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_by_hand() {
        let constant = ScheduleSpec::Constant { warmup_steps: 3 };
        assert_eq!([0, 1, 2, 3, 9].map(|s| constant.factor(s, 10)), [0.25, 0.5, 0.75, 1.0, 1.0]);
        let step = ScheduleSpec::Step { warmup_steps: 0, milestones: vec![2, 5], factor: 0.5 };
        assert_eq!([0, 1, 2, 4, 5, 9].map(|s| step.factor(s, 10)), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]);
        let cosine = ScheduleSpec::Cosine { warmup_steps: 2, minimum: 0.1 };
        let expected = [1.0 / 3.0, 2.0 / 3.0, 1.0, 0.55, 0.1];
        for (s, expected) in [0, 1, 2, 6, 10].into_iter().zip(expected) {
            assert!((cosine.factor(s, 10) - expected).abs() < 1e-12, "{s}");
        }
    }

    #[test]
    fn a_run_shorter_than_its_warmup_has_finite_factors() {
        let cosine = ScheduleSpec::Cosine { warmup_steps: 5, minimum: 0.0 };
        assert!((0..7).all(|s| cosine.factor(s, 2).is_finite()));
    }

    #[test]
    fn bad_constants_are_named() {
        let table = [
            (ScheduleSpec::Step { warmup_steps: 0, milestones: vec![], factor: 0.0 }, "factor"),
            (ScheduleSpec::Step { warmup_steps: 0, milestones: vec![5, 2], factor: 0.1 }, "milestones"),
            (ScheduleSpec::Cosine { warmup_steps: 0, minimum: 1.5 }, "minimum"),
        ];
        for (spec, option) in table {
            assert_eq!(spec.validate().unwrap_err().subject.as_deref(), Some(option));
        }
    }
}
