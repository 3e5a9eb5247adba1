//! The weight of a term in the total loss: a number, a course over the steps, or balanced with another term.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Error, Result};

/// Factor of a term. In JSON a number, `{"from": 0, "to": 1, "steps": 1000}` or `"auto"`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a weight is a number, {from, to, start, steps} or \"auto\"")]
pub enum Weight {
    /// The same in every step, at least 0.
    Number(f64),
    /// From one number to another.
    Course(Course),
    /// Found in the first steps, so that the term's gradient is as large as that of the first term whose weight is a
    /// number; see `train/balance.rs`.
    Named(Named),
}

/// A weight that changes once, in a straight line.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Course {
    /// The weight up to step `start`, at least 0.
    pub from: f64,
    /// The weight from step `start + steps` on, at least 0.
    pub to: f64,
    /// The first step, counted from 0, whose weight may differ from `from`.
    #[serde(default)]
    pub start: u64,
    /// Length of the way; 0 is a jump.
    #[serde(default)]
    pub steps: u64,
}

/// Weights that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Named {
    /// Balanced by gradient norms.
    Auto,
}

impl Weight {
    /// The weight in step `step`, counted from 0; `None` where it is not known beforehand.
    pub fn at(&self, step: u64) -> Option<f64> {
        match *self {
            Weight::Number(weight) => Some(weight),
            Weight::Course(Course { from, to, start, steps }) => {
                let done = step.saturating_sub(start);
                Some(match step < start {
                    true => from,
                    false if done >= steps => to,
                    false => from + (to - from) * done as f64 / steps as f64,
                })
            }
            Weight::Named(Named::Auto) => None,
        }
    }

    /// Whether the term is never computed.
    pub fn is_off(&self) -> bool {
        match *self {
            Weight::Number(weight) => weight == 0.0,
            Weight::Course(Course { from, to, .. }) => from == 0.0 && to == 0.0,
            Weight::Named(Named::Auto) => false,
        }
    }

    /// Checks the numbers; the error names the term `loss`.
    pub fn validate(&self, loss: &str) -> Result<()> {
        let numbers = match *self {
            Weight::Number(weight) => vec![("weight", weight)],
            Weight::Course(Course { from, to, .. }) => vec![("weight.from", from), ("weight.to", to)],
            Weight::Named(Named::Auto) => Vec::new(),
        };
        match numbers.into_iter().find(|(_, number)| !number.is_finite() || *number < 0.0) {
            None => Ok(()),
            Some((option, number)) => Err(Error::new(Code::InvalidOption, "the weight is out of range")
                .with_subject(format!("{loss}.{option}"))
                .with_values("a number, at least 0", number.to_string())
                .with_advice("0 switches the term off")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn weight(json: serde_json::Value) -> Weight {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_course_waits_walks_and_stays() {
        let ramp = weight(json!({"from": 1, "to": 3, "start": 2, "steps": 4}));
        let found: Vec<f64> = (0..9).filter_map(|step| ramp.at(step)).collect();
        assert_eq!(found, [1.0, 1.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0, 3.0]);
        let stage = weight(json!({"from": 0, "to": 1, "start": 2}));
        assert_eq!((0..4).filter_map(|step| stage.at(step)).collect::<Vec<_>>(), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(weight(json!(0.5)).at(7), Some(0.5));
        assert_eq!(weight(json!("auto")).at(7), None);
    }

    #[test]
    fn what_is_no_weight_is_refused() {
        for bad in [json!(-1), json!({"from": 0, "to": -1}), json!({"from": -0.5, "to": 1})] {
            let error = weight(bad).validate("hint").unwrap_err();
            assert!(error.to_string().starts_with("hint.weight"), "{error}");
        }
        let error = serde_json::from_value::<Weight>(json!("automatic")).unwrap_err();
        assert!(error.to_string().contains("\"auto\""), "{error}");
        assert!(serde_json::from_value::<Weight>(json!({"from": 0, "to": 1, "step": 3})).is_err());
    }

    #[test]
    fn weights_survive_json() {
        for text in ["2.5", "{\"from\":0.0,\"to\":1.0,\"start\":3,\"steps\":9}", "\"auto\""] {
            let weight: Weight = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&weight).unwrap(), text);
        }
    }
}
