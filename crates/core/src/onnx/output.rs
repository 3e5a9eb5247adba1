//! Which tensor of a graph is the embedding.
//!
//! In this order: the one that is asked for; the names that exports of embedding models use (`image_embeds`,
//! `pooler_output`, `embedding`, ...); the only output of two axes. An output of tokens `[n, t, d]` is pooled by its class
//! token or its mean, one of maps `[n, c, h, w]` by its mean over pixels. Where several would do, none is guessed: the error
//! lists them with their shapes.

use serde::{Deserialize, Serialize};

use super::graph::{Axis, Graph, Number, TensorForm};
use crate::error::{Code, Error, Result};
use crate::spelling;

/// Names of outputs that are embeddings, best first.
const NAMES: &[&str] =
    &["image_embeds", "image_embedding", "sentence_embedding", "pooler_output", "embedding", "embeddings"];

/// How an output becomes one vector an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// It is one: `[n, d]`, or `[n, d, 1, 1]`.
    None,
    /// The first token of `[n, t, d]`.
    ClassToken,
    /// The mean of the tokens of `[n, t, d]`.
    MeanToken,
    /// The mean over the pixels of `[n, c, h, w]`.
    MeanPixel,
}

/// The tensor that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputForm {
    /// Its name.
    pub name: String,
    /// How it becomes a vector.
    pub pooling: Pooling,
    /// The length of the vector, where the graph says it.
    pub length: Option<usize>,
}

/// The output `asked` for, or the one that is the embedding. `pooling` decides about tokens; the class token otherwise.
///
/// # Errors
/// `ERR_INVALID_OPTION` with the list of outputs where there is no such tensor, or no single best one.
pub fn output_of(graph: &Graph, asked: Option<&str>, pooling: Option<Pooling>) -> Result<OutputForm> {
    if let Some(name) = asked {
        return named(graph, name, pooling);
    }
    let floats: Vec<&TensorForm> =
        graph.outputs.iter().filter(|output| matches!(output.number, Number::Float32 | Number::Float16)).collect();
    if let Some(known) = NAMES.iter().find_map(|name| floats.iter().find(|output| output.name == *name)) {
        return formed(graph, known, pooling);
    }
    if let [only] = floats[..] {
        return formed(graph, only, pooling);
    }
    let vectors: Vec<&&TensorForm> = floats.iter().filter(|output| rank(output) == Some(2)).collect();
    if let [only] = vectors[..] {
        return formed(graph, only, pooling);
    }
    if let Some(tokens) = floats.iter().find(|output| output.name == "last_hidden_state") {
        return formed(graph, tokens, pooling);
    }
    Err(several(graph))
}

fn named(graph: &Graph, name: &str, pooling: Option<Pooling>) -> Result<OutputForm> {
    if !graph.has(name) {
        let names = graph.nodes.iter().flat_map(|node| &node.outputs).map(String::as_str);
        let near = spelling::nearest(name, names, 3).join(", ");
        return Err(Error::new(Code::InvalidOption, "the model has no tensor of this name")
            .with_subject("teacher.onnx.output")
            .with_values(listing(graph), format!("{name:?}"))
            .with_advice(format!("names inside the graph are taken too; the nearest are {near}")));
    }
    match graph.tensor(name) {
        Some(tensor) => formed(graph, tensor, pooling),
        // A tensor inside whose form is not written: the engine says what it is when it runs.
        None => Ok(OutputForm { name: name.to_string(), pooling: pooling.unwrap_or(Pooling::None), length: None }),
    }
}

fn formed(graph: &Graph, tensor: &TensorForm, pooling: Option<Pooling>) -> Result<OutputForm> {
    let name = tensor.name.clone();
    let fixed = |axis: &Axis| axis.fixed();
    match tensor.shape.as_deref() {
        None => Ok(OutputForm { name, pooling: pooling.unwrap_or(Pooling::None), length: None }),
        Some([_, d]) => Ok(OutputForm { name, pooling: Pooling::None, length: fixed(d) }),
        Some([_, _, d]) => Ok(OutputForm { name, pooling: pooling.unwrap_or(Pooling::ClassToken), length: fixed(d) }),
        Some([_, d, h, w]) if (fixed(h), fixed(w)) == (Some(1), Some(1)) => {
            Ok(OutputForm { name, pooling: Pooling::None, length: fixed(d) })
        }
        Some([_, d, _, _]) => Ok(OutputForm { name, pooling: Pooling::MeanPixel, length: fixed(d) }),
        Some(_) => Err(several(graph)),
    }
}

fn rank(tensor: &TensorForm) -> Option<usize> {
    tensor.shape.as_ref().map(Vec::len)
}

fn listing(graph: &Graph) -> String {
    let outputs: Vec<String> = graph.outputs.iter().map(TensorForm::to_string).collect();
    format!("one of {}", outputs.join(", "))
}

fn several(graph: &Graph) -> Error {
    Error::new(Code::InvalidOption, "the model has no single output that is an embedding")
        .with_subject("teacher.onnx.output")
        .with_values(listing(graph), "none was named")
        .with_advice("name the one that is the embedding (--teacher-output NAME)")
}
