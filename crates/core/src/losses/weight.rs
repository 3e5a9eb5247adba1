//! The weight of a term in the total loss: a number, a course over the steps, or balanced with another term.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::input::{self, At, NotNegative};

/// Factor of a term in the sum: a number, a course, or `"auto"`. Auto measures, in the first 20 steps, how large each
/// term's gradient is, and makes this one's as large as that of the first term whose weight is a number; the outcome is an
/// event and stands in `plan.json` as `chosenWeights`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(untagged)]
pub enum Weight {
    /// The same in every step, at least 0.
    Number(f64),
    /// From one number to another.
    Course(Course),
    /// Found in the first steps, so that the term's gradient is as large as that of the first term whose weight is a
    /// number; see `train/balance.rs`.
    Named(Named),
}

/// A weight that changes once, in a straight line. Where it is 0 the term is not computed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS), ts(rename = "WeightCourse"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Course {
    /// The weight up to step `start`, at least 0.
    #[serde(deserialize_with = "input::via::<NotNegative, _, _>")]
    pub from: f64,
    /// The weight from step `start + steps` on, at least 0.
    #[serde(deserialize_with = "input::via::<NotNegative, _, _>")]
    pub to: f64,
    /// The first step, counted from 0, whose weight may differ from `from`. @default 0
    #[cfg_attr(test, ts(optional, as = "Option<u64>"))]
    #[serde(default, deserialize_with = "input::via::<input::Whole<0>, _, _>")]
    pub start: u64,
    /// Steps on the way; 0 is a jump. @default 0
    #[cfg_attr(test, ts(optional, as = "Option<u64>"))]
    #[serde(default, deserialize_with = "input::via::<input::Whole<0>, _, _>")]
    pub steps: u64,
}

/// Weights that have a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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

    /// The largest weight that it ever is; 1 where it is found.
    pub fn largest(&self) -> f64 {
        match *self {
            Weight::Number(weight) => weight,
            Weight::Course(Course { from, to, .. }) => from.max(to),
            Weight::Named(Named::Auto) => 1.0,
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
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Weight, D::Error> {
        let at = At::deserialize(deserializer)?;
        let weight = match &at.value {
            Value::Number(_) => at.read::<NotNegative>().map(|NotNegative(weight)| Weight::Number(weight)),
            Value::Object(_) => at.read().map(Weight::Course),
            Value::String(name) if name == "auto" => Ok(Weight::Named(Named::Auto)),
            other => {
                let expected = "a number at least 0, a course { from, to, start, steps } or \"auto\"";
                Err(input::invalid(&at.path, expected, input::show(other)))
            }
        };
        weight.map_err(input::carry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn weight(json: Value) -> Weight {
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
            let error = input::read::<Weight>("hint.weight", &bad).unwrap_err();
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
