//! Which dictionary of a PyTorch checkpoint is the state dict.
//!
//! A training script saves more than its network: the optimiser's state, a metric (as a tensor, in PyTorch's own
//! ImageNet example), a generator's state, averaged weights, a teacher. [`choose`] takes the dictionary under a usual
//! name; where there is none, the only one that holds weights; else none, and says what there is to choose from.

use std::collections::HashMap;

use super::pickle::{Id, Object, Pickle};
use super::view::{is_tensor, view};
use crate::error::{Code, Error, Result};

/// Where training scripts put the state dict, the usual first.
const USUAL_NAMES: [&str; 10] =
    ["state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "module", "ema"];

/// What has tensors of floats and is no network.
const NOT_WEIGHTS: [&str; 8] = [
    "optimizer",
    "optimizer_state_dict",
    "optimizer_state",
    "optim",
    "scheduler",
    "lr_scheduler",
    "scaler",
    "loss_scaler",
];

/// Other weights that are named, at most, of each dictionary.
const MOST_OTHERS: usize = 8;

/// Dictionaries in dictionaries, at most; real ones have two.
const DEEPEST: usize = 8;

/// A state dict of a checkpoint.
#[derive(Debug)]
pub(super) struct Choice<'a> {
    /// Names and values.
    pub(super) entries: &'a [(Id, Id)],
    /// The keys that lead to it, joined by dots; empty: the checkpoint itself.
    pub(super) path: String,
    /// What could have been chosen instead.
    pub(super) others: Vec<String>,
    /// What is left of the wanted key where it leads further than dictionaries do: the beginning of names.
    pub(super) prefix: Option<String>,
}

/// Finds the state dict, under `key` where one is given: keys joined by dots.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` where there is none, or several and none of a usual name: it says what there is.
pub(super) fn choose<'a>(pickle: &'a Pickle, key: Option<&str>) -> Result<Choice<'a>> {
    let Some(mut entries) = pickle.dictionary(pickle.root()) else {
        return Err(none(&describe(pickle, pickle.root())));
    };
    let mut search = Search { pickle, holds: HashMap::new() };
    let (mut path, mut others, mut prefix) = (Vec::new(), Vec::new(), key);
    while let Some(((name, below), rest)) = prefix.and_then(|key| step(pickle, entries, key)) {
        path.push(name);
        (entries, prefix) = (below, rest);
    }
    while path.len() < DEEPEST {
        let candidates = search.candidates(entries);
        let next = search.next(entries, &candidates, &path)?;
        let beside = candidates.iter().filter(|(other, _)| next.is_none_or(|(name, _)| name != *other));
        others.extend(beside.take(MOST_OTHERS).map(|(other, _)| joined(&path, other)));
        let Some((name, below)) = next else { break };
        path.push(name);
        entries = below;
    }
    if !entries.iter().any(|&(name, value)| search.is_weight(name, value)) {
        return Err(none(&contents(pickle, entries)));
    }
    Ok(Choice { entries, path: path.join("."), others, prefix: prefix.map(str::to_string) })
}

/// Names and values of a dictionary.
type Entries<'a> = &'a [(Id, Id)];

/// A key and the dictionary under it.
type Named<'a> = (&'a str, Entries<'a>);

/// The dictionary under the first part of `key`, that part, and the rest. A part may have dots of its own: the longest
/// counts, and of two alike the later.
fn step<'a, 'k>(pickle: &'a Pickle, entries: Entries<'a>, key: &'k str) -> Option<(Named<'a>, Option<&'k str>)> {
    let found = entries.iter().filter_map(|&(name, value)| {
        let (name, below) = (pickle.text(name)?, pickle.dictionary(value)?);
        match key.strip_prefix(name)? {
            "" => Some(((name, below), None)),
            rest => Some(((name, below), Some(rest.strip_prefix('.')?))),
        }
    });
    found.max_by_key(|((name, _), _)| name.len())
}

struct Search<'a> {
    pickle: &'a Pickle,
    /// Whether a dictionary holds weights, itself or below; each is looked at once, however often it is named.
    holds: HashMap<Id, bool>,
}

impl<'a> Search<'a> {
    /// The dictionary to go down to; `None`: stay.
    fn next(&self, entries: &[(Id, Id)], candidates: &[Named<'a>], path: &[&str]) -> Result<Option<Named<'a>>> {
        let usual = USUAL_NAMES.iter().find_map(|usual| candidates.iter().find(|(name, _)| name == usual));
        // A tensor that is called a weight tells a state dict with something beside it from a checkpoint with a metric.
        let called_weight = |&(name, value): &(Id, Id)| {
            self.is_weight(name, value) && self.pickle.text(name).is_some_and(|name| name.ends_with("weight"))
        };
        match (usual, candidates) {
            (Some(usual), _) => Ok(Some(*usual)),
            (None, []) => Ok(None),
            (None, _) if entries.iter().any(called_weight) => Ok(None),
            (None, [only]) => Ok(Some(*only)),
            (None, several) => {
                let names: Vec<String> = several.iter().map(|(name, _)| joined(path, name)).collect();
                Err(Error::new(Code::InvalidArtefact, "the checkpoint has weights under several names")
                    .with_values("one of them", shown(&names))
                    .with_advice(format!(
                        "choose one with the key of the weights, weights.key: {:?} for example",
                        names[0]
                    )))
            }
        }
    }

    /// The dictionaries under text keys that hold weights; of two under one key the later.
    fn candidates(&mut self, entries: &'a [(Id, Id)]) -> Vec<Named<'a>> {
        let (mut found, mut places) = (Vec::<Named<'a>>::new(), HashMap::new());
        for &(name, value) in entries {
            if let (Some(name), Some(below)) = (self.pickle.text(name), self.pickle.dictionary(value))
                && !NOT_WEIGHTS.contains(&name)
                && self.holds(value, 0)
            {
                let place = *places.entry(name).or_insert(found.len());
                match found.get_mut(place) {
                    Some(before) => *before = (name, below),
                    None => found.push((name, below)),
                }
            }
        }
        found
    }

    fn holds(&mut self, dictionary: Id, depth: usize) -> bool {
        if let Some(&known) = self.holds.get(&dictionary) {
            return known;
        }
        // A dictionary that holds itself ends here.
        self.holds.insert(dictionary, false);
        let entries = self.pickle.dictionary(dictionary).unwrap_or_default();
        let below = |search: &mut Self, name: Id, value: Id| {
            depth < DEEPEST && search.pickle.text(name).is_some() && search.holds(value, depth + 1)
        };
        let holds = entries.iter().any(|&(name, value)| self.is_weight(name, value) || below(self, name, value));
        self.holds.insert(dictionary, holds);
        holds
    }

    /// Whether an entry is a tensor that a network can learn: of floats, or one that cannot be read and will be named.
    fn is_weight(&self, name: Id, value: Id) -> bool {
        self.pickle.text(name).is_some()
            && view(self.pickle, value).is_some_and(|view| view.map_or(true, |view| view.element.is_float()))
    }
}

fn joined(path: &[&str], name: &str) -> String {
    path.iter().chain([&name]).map(|part| shortened(part)).collect::<Vec<_>>().join(".")
}

/// What an object is, for a message.
fn describe(pickle: &Pickle, id: Id) -> String {
    match pickle.get(id) {
        Object::Dictionary(entries) => contents(pickle, entries),
        _ if is_tensor(pickle, id) => "a single tensor without a name".into(),
        Object::List(items) | Object::Tuple(items) if items.iter().any(|&item| is_tensor(pickle, item)) => {
            "tensors without names, in a list".into()
        }
        Object::List(_) | Object::Tuple(_) => "a list".into(),
        Object::Call { function, .. } => match class_of(pickle, id, *function) {
            Some(name) => format!("a whole model or another object, of the class {}", shortened(name)),
            None => "an object".into(),
        },
        _ => "a value that is no tensor".into(),
    }
}

/// The class of an object: of one that `copyreg` rebuilds its first argument; before PyTorch 1.6 `("module", class,
/// ...)`.
fn class_of(pickle: &Pickle, id: Id, function: Id) -> Option<&str> {
    if let Object::Persistent(parts) = pickle.get(function) {
        return pickle.global(*pickle.tuple(*parts)?.get(1)?);
    }
    let (name, arguments) = pickle.call(id)?;
    let rebuilt = arguments.first().filter(|_| name.starts_with("copy")).and_then(|&first| pickle.global(first));
    rebuilt.or(Some(name))
}

/// What a dictionary has, for a message: its keys, and its objects by their class.
fn contents(pickle: &Pickle, entries: &[(Id, Id)]) -> String {
    let entry = |&(key, value): &(Id, Id)| {
        let key = shortened(pickle.text(key)?);
        match pickle.get(value) {
            Object::Call { .. } if !is_tensor(pickle, value) => Some(format!("{key} ({})", describe(pickle, value))),
            _ => Some(key),
        }
    };
    let names: Vec<String> = entries.iter().filter_map(entry).collect();
    format!("a dictionary of {}", if names.is_empty() { "nothing by name".into() } else { shown(&names) })
}

fn shortened(name: &str) -> String {
    name.chars().take(60).collect()
}

fn shown(names: &[String]) -> String {
    let shown = names.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(8);
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

fn none(received: &str) -> Error {
    Error::new(Code::InvalidArtefact, "the checkpoint has no state dict")
        .with_values("tensors by name, or a dictionary of them", received)
        .with_advice(
            "save only the tensors, in Python: model = torch.load(path, weights_only=False), if you trust the file, \
             then torch.save(model.state_dict(), \"weights.pth\")",
        )
}
