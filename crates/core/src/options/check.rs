//! The check of one part of the options, for constructors: they refuse at once what a run would refuse.

use serde::Deserialize;
use serde_json::Value;

use super::{BackboneOptions, DataOptions};
use crate::error::Result;
use crate::input::{invalid, needed, read, show, write};
use crate::losses::TermSpec;
use crate::optim::{OptimizerSpec, ScheduleSpec};

/// A part of the options that has constructors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "lowercase")]
pub enum OptionPart {
    /// A term of the total loss.
    Loss,
    /// A network.
    Backbone,
    /// An optimiser.
    Optimizer,
    /// A schedule.
    Schedule,
    /// A source of images.
    Data,
}

/// Checks `value`, which errors call `name` (the constructor), and gives it with the defaults that do not depend on others.
pub fn check(part: OptionPart, name: &str, value: Value) -> Result<Value> {
    match part {
        OptionPart::Loss => {
            let term: TermSpec = read(name, &value)?;
            term.check_tap(name)?;
            write(&term)
        }
        OptionPart::Optimizer => write(&read::<OptimizerSpec>(name, &value)?),
        OptionPart::Schedule => write(&read::<ScheduleSpec>(name, &value)?),
        OptionPart::Backbone => {
            read::<BackboneOptions>(name, &value)?.check(name)?;
            Ok(value)
        }
        OptionPart::Data => {
            read::<DataOptions>(name, &value)?.check().map_err(|mut error| {
                // A constructor calls its own options by its own name.
                let option = error.subject.as_deref().and_then(|subject| subject.strip_prefix("data."));
                if let Some(option) = option {
                    error.subject = Some(format!("{name}.{option}"));
                }
                error
            })?;
            Ok(value)
        }
    }
}

impl BackboneOptions {
    /// Checks what options say together, and gives the kind, which is needed.
    pub(super) fn check(&self, name: &str) -> Result<&'static str> {
        let kind = self.kind.ok_or_else(|| needed(format!("{name}.kind")))?.0;
        match &self.hidden {
            Some(hidden) if hidden.is_empty() && kind == "mlp" => {
                Err(invalid(format!("{name}.hidden"), "a list of one width or more", show(&Value::Array(Vec::new()))))
            }
            Some(hidden) if !hidden.is_empty() && kind != "mlp" => {
                let received = format!("an array of {} with {kind}", hidden.len());
                Err(invalid(format!("{name}.hidden"), "widths of an mlp alone", received))
            }
            _ => Ok(kind),
        }
    }
}
