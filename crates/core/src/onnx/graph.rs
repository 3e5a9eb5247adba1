//! What stands in an ONNX file: its inputs, outputs and operations, without the weights.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};

use rten_onnx::onnx::{AttributeProto, DataType, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use rten_onnx::protobuf::DecodeMessage;

use super::bytes::Bytes;
use crate::error::{Code, Error, Result};

/// The largest file that is read, in bytes: 2 GiB is the format's own limit without external data.
const LARGEST_FILE: u64 = 2 << 30;

/// Constants of up to so many numbers are kept: means and deviations of pixels, not weights.
const SMALL_CONSTANT: usize = 64;

/// The type of a tensor's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// `float`.
    Float32,
    /// `float16`.
    Float16,
    /// `uint8`.
    Byte,
    /// Another one, by ONNX's number.
    Other(i32),
}

/// The length of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Written into the graph.
    Fixed(usize),
    /// Chosen by the caller; its name, where it has one.
    Free(String),
}

/// A tensor that goes in, comes out, or is named on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorForm {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub number: Number,
    /// The lengths of its axes; `None` where the graph does not say.
    pub shape: Option<Vec<Axis>>,
}

/// An operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// For example `Conv`.
    pub operation: String,
    /// Empty for ONNX's own operations.
    pub domain: String,
    /// Names of what it reads.
    pub inputs: Vec<String>,
    /// Names of what it gives.
    pub outputs: Vec<String>,
    /// Its text attributes: `mode` of a `Resize`.
    pub texts: BTreeMap<String, String>,
    /// Its number, where it is a `Constant` of a few numbers.
    constant: Option<Vec<f32>>,
}

/// A graph.
#[derive(Debug)]
pub struct Graph {
    /// The file.
    pub path: PathBuf,
    /// BLAKE3 of the file, in hexadecimal.
    pub hash: String,
    /// The program that wrote it, with its version.
    pub producer: String,
    /// The version of ONNX's operations.
    pub opset: i64,
    /// What the caller gives.
    pub inputs: Vec<TensorForm>,
    /// What comes out.
    pub outputs: Vec<TensorForm>,
    /// Tensors on the way whose form is written down.
    pub inner: Vec<TensorForm>,
    /// The operations, in order.
    pub nodes: Vec<Node>,
    /// Numbers among the weights.
    pub parameters: usize,
    constants: HashMap<String, Vec<f32>>,
}

impl Graph {
    /// Reads the file.
    ///
    /// # Errors
    /// `ERR_NOT_FOUND`, `ERR_INVALID_ARTEFACT` for what is no ONNX model, is damaged, or keeps its weights in a file that is
    /// not there.
    pub fn read(path: &Path) -> Result<Graph> {
        let size = std::fs::metadata(path).map_err(|e| Error::io("reading the model", path, e))?.len();
        let damaged = |what: String| {
            Error::new(Code::InvalidArtefact, what)
                .with_subject(path.display().to_string())
                .with_advice("export the model again, or choose another file")
        };
        if size > LARGEST_FILE {
            return Err(damaged("the model is larger than an ONNX file can be".into())
                .with_values("at most 2 GiB", format!("{size} bytes")));
        }
        let bytes = std::fs::read(path).map_err(|e| Error::io("reading the model", path, e))?;
        let hash = blake3::hash(&bytes).to_hex().to_string();
        let proto =
            ModelProto::decode(Bytes::new(&bytes)).map_err(|e| damaged(format!("not a readable ONNX model: {e}")))?;
        let opset = proto.opset_import.iter().filter(|set| set.domain.as_deref().unwrap_or_default().is_empty());
        let opset = opset.filter_map(|set| set.version).max().unwrap_or_default();
        let producer = [proto.producer_name.as_deref(), proto.producer_version.as_deref()];
        let producer = producer.into_iter().flatten().collect::<Vec<_>>().join(" ");
        let graph = proto.graph.ok_or_else(|| damaged("the ONNX model has no graph".into()))?;
        check_external(path, &graph.initializer)?;
        let weights: HashMap<&str, &TensorProto> =
            graph.initializer.iter().filter_map(|tensor| Some((tensor.name.as_deref()?, tensor))).collect();
        let forms = |list: &[ValueInfoProto]| list.iter().filter_map(form).collect::<Vec<_>>();
        // Old files list their weights among the inputs.
        let inputs =
            forms(&graph.input).into_iter().filter(|input| !weights.contains_key(input.name.as_str())).collect();
        let constants = weights.iter().filter_map(|(name, tensor)| Some((name.to_string(), numbers(tensor)?)));
        let constants: HashMap<String, Vec<f32>> = constants.collect();
        let parameters = graph.initializer.iter().map(count).fold(0, usize::saturating_add);
        let (outputs, inner) = (forms(&graph.output), forms(&graph.value_info));
        let nodes: Vec<Node> = graph.node.iter().map(node).collect();
        let path = path.to_path_buf();
        Ok(Graph { path, hash, producer, opset, inputs, outputs, inner, nodes, parameters, constants })
    }

    /// The operation that gives the tensor `name`.
    pub fn source(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.outputs.iter().any(|output| output == name))
    }

    /// The operations that read the tensor `name`.
    pub fn readers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.inputs.iter().any(|input| input == name))
    }

    /// The numbers of a small constant.
    pub fn constant(&self, name: &str) -> Option<&[f32]> {
        match self.constants.get(name) {
            Some(numbers) => Some(numbers),
            None => self.source(name)?.constant.as_deref(),
        }
    }

    /// The form of any tensor that the graph names.
    pub fn tensor(&self, name: &str) -> Option<&TensorForm> {
        [&self.outputs, &self.inputs, &self.inner].into_iter().flatten().find(|tensor| tensor.name == name)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.inputs.iter().any(|input| input.name == name) || self.source(name).is_some()
    }
}

impl fmt::Display for TensorForm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = match self.number {
            Number::Float32 => "float32".to_string(),
            Number::Float16 => "float16".to_string(),
            Number::Byte => "uint8".to_string(),
            Number::Other(kind) => DataType(kind).name().map_or_else(|| format!("type {kind}"), str::to_lowercase),
        };
        match &self.shape {
            None => write!(out, "{} ({number}, shape not written)", self.name),
            Some(axes) => {
                let axes: Vec<String> = axes.iter().map(Axis::to_string).collect();
                write!(out, "{} ({number} [{}])", self.name, axes.join(", "))
            }
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Axis::Fixed(length) => write!(out, "{length}"),
            Axis::Free(name) if name.is_empty() => out.write_str("?"),
            Axis::Free(name) => out.write_str(name),
        }
    }
}

impl Axis {
    /// The length, where the graph fixes it.
    pub fn fixed(&self) -> Option<usize> {
        match self {
            Axis::Fixed(length) => Some(*length),
            Axis::Free(_) => None,
        }
    }
}

fn form(value: &ValueInfoProto) -> Option<TensorForm> {
    let tensor = value.r#type.as_ref()?.tensor_type.as_ref()?;
    let number = match tensor.elem_type {
        Some(DataType::FLOAT) => Number::Float32,
        Some(DataType::FLOAT16) => Number::Float16,
        Some(DataType::UINT8) => Number::Byte,
        other => Number::Other(other.map_or(0, |kind| kind.0)),
    };
    let axis = |axis: &rten_onnx::onnx::Dimension| match axis.dim_value {
        Some(length) if length > 0 => Axis::Fixed(length as usize),
        _ => Axis::Free(axis.dim_param.clone().unwrap_or_default()),
    };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(axis).collect());
    Some(TensorForm { name: value.name.clone()?, number, shape })
}

fn node(proto: &NodeProto) -> Node {
    let text = |attribute: &AttributeProto| Some((attribute.name.clone()?, attribute.s.clone()?));
    let operation = proto.op_type.clone().unwrap_or_default();
    let value = |name: &str| proto.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name));
    let constant = (operation == "Constant").then(|| {
        let float = value("value_float").and_then(|attribute| attribute.f).map(|float| vec![float]);
        float.or_else(|| value("value").and_then(|attribute| numbers(attribute.t.as_ref()?)))
    });
    Node {
        domain: proto.domain.clone().filter(|domain| domain != "ai.onnx").unwrap_or_default(),
        inputs: proto.input.clone(),
        outputs: proto.output.clone(),
        texts: proto.attribute.iter().filter_map(text).collect(),
        constant: constant.flatten(),
        operation,
    }
}

/// How many numbers a tensor has, by its shape.
fn count(tensor: &TensorProto) -> usize {
    tensor.dims.iter().fold(1, |product: usize, &length| product.saturating_mul(usize::try_from(length).unwrap_or(0)))
}

/// The numbers of a small floating-point tensor.
fn numbers(tensor: &TensorProto) -> Option<Vec<f32>> {
    if count(tensor) > SMALL_CONSTANT {
        return None;
    }
    let raw = tensor.raw_data.as_ref().map(|raw| raw.borrow().clone()).unwrap_or_default();
    match tensor.data_type? {
        DataType::FLOAT if !tensor.float_data.is_empty() => Some(tensor.float_data.clone()),
        DataType::FLOAT => Some(raw.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()),
        DataType::DOUBLE => {
            Some(raw.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32).collect())
        }
        _ => None,
    }
}

/// Weights in files of their own must be beside the model.
fn check_external(path: &Path, weights: &[TensorProto]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    for tensor in weights {
        let place = tensor.external_data.iter().find(|entry| entry.key.as_deref() == Some("location"));
        let Some(name) = place.and_then(|entry| entry.value.as_deref()) else { continue };
        let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if plain && folder.join(name).is_file() {
            continue;
        }
        return Err(Error::new(
            Code::InvalidArtefact,
            "the model keeps its weights in another file, which is not there",
        )
        .with_subject(path.display().to_string())
        .with_values(format!("{name:?} beside it"), "no such file in its folder")
        .with_advice("copy both files, or save the model in one (onnx.save(..., save_as_external_data=False))"));
    }
    Ok(())
}
