//! The features of a network: the boundary between networks and losses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::input::Text;

/// A feature of a network that a loss can read. In JSON its name; every other name is a tap.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Text", into = "String")]
pub enum Feature {
    /// The embedding, `[n, d]`.
    Embedding,
    /// The feature before the embedding layer, `[n, p]`.
    Pooled,
    /// The logits, `[n, classes]`.
    Logits,
    /// A named activation inside the network, `[n, h, w, c]`.
    Tap(String),
}

/// What there is for each of some features: its values, their gradient, its shape. In the order of [`Feature`], taps by name.
pub type FeatureMap<T> = BTreeMap<Feature, T>;

impl Feature {
    /// The name in plans and messages.
    pub fn name(&self) -> &str {
        match self {
            Feature::Embedding => "embedding",
            Feature::Pooled => "pooled",
            Feature::Logits => "logits",
            Feature::Tap(name) => name,
        }
    }
}

impl From<String> for Feature {
    fn from(name: String) -> Feature {
        match name.as_str() {
            "embedding" => Feature::Embedding,
            "pooled" => Feature::Pooled,
            "logits" => Feature::Logits,
            _ => Feature::Tap(name),
        }
    }
}

impl From<Text> for Feature {
    fn from(Text(name): Text) -> Feature {
        name.into()
    }
}

impl From<Feature> for String {
    fn from(feature: Feature) -> String {
        feature.name().to_string()
    }
}
