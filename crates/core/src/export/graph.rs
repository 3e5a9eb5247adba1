//! An ONNX graph in memory, and how it is written: IR 8, operations of version 17.
//!
//! An operation is known by the tensor that it gives; each gives one. IR 8 and opset 17 are of 2022: onnxruntime since 1.12,
//! onnxruntime-web, rten, OpenVINO, TensorRT and CoreML's converters read them.

use half::f16;

use super::proto::Message;
use crate::error::{Code, Error, Result};

/// The version of the format.
const IR_VERSION: i64 = 8;
/// The version of the operations.
const OPSET: i64 = 17;
/// What protobuf reads in one message.
const LARGEST_FILE: usize = 2 << 30;

/// The type of a tensor's numbers, by ONNX's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// float
    Float32 = 1,
    /// uint8
    Uint8 = 2,
    /// int8
    Int8 = 3,
    /// int32
    Int32 = 6,
    /// int64
    Int64 = 7,
    /// float16
    Float16 = 10,
}

/// The numbers of a constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Weights.
    Float32(Vec<f32>),
    /// Weights in half their size.
    Float16(Vec<f16>),
    /// Weights in a quarter of it.
    Int8(Vec<i8>),
    /// Zero points.
    Uint8(Vec<u8>),
    /// Biases of int8 layers.
    Int32(Vec<i32>),
    /// Shapes and places.
    Int64(Vec<i64>),
}

/// A constant: weights, a bias, a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Its shape; a single number has none.
    pub shape: Vec<usize>,
    /// Its numbers, row-major.
    pub values: Values,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    /// A number.
    Float(f32),
    /// A whole number.
    Int(i64),
    /// Several.
    Ints(Vec<i64>),
}

/// An operation.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `Conv`, `Relu`, ...
    pub operation: &'static str,
    /// The tensors that it reads.
    pub inputs: Vec<String>,
    /// The tensor that it gives, which is its name too.
    pub output: String,
    /// Its attributes by name.
    pub attributes: Vec<(&'static str, Attribute)>,
}

/// The length of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Axis {
    /// As many images as come.
    Batch,
    /// Fixed.
    Length(usize),
}

/// What goes in or comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub number: Number,
    /// Its axes.
    pub shape: Vec<Axis>,
}

/// A graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// The operations, each after those that it reads from.
    pub nodes: Vec<Node>,
    /// The constants.
    pub constants: Vec<Constant>,
    /// What goes in.
    pub input: Tensor,
    /// What comes out.
    pub output: Tensor,
}

impl Graph {
    /// Adds an operation; gives the name of its tensor.
    pub fn add(
        &mut self,
        operation: &'static str,
        inputs: &[&str],
        output: impl Into<String>,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> String {
        let output = output.into();
        let inputs = inputs.iter().map(|input| input.to_string()).collect();
        self.nodes.push(Node { operation, inputs, output: output.clone(), attributes });
        output
    }

    /// Adds a constant; gives its name.
    pub fn constant(&mut self, name: impl Into<String>, shape: &[usize], values: Values) -> String {
        let name = name.into();
        self.constants.push(Constant { name: name.clone(), shape: shape.to_vec(), values });
        name
    }

    /// The operations that read the tensor `name`.
    pub fn readers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.nodes.iter().filter(move |node| node.inputs.iter().any(|input| input == name))
    }

    /// The bytes of the model, with texts beside it by their names.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for a model beyond the 2 GiB that the format holds.
    pub fn encode(self, metadata: &[(&str, &str)]) -> Result<Vec<u8>> {
        let Graph { name, nodes, constants, input, output } = self;
        let graph = Message::default()
            .all(nodes, |message, node| message.message(1, node.encode()))
            .text(2, &name)
            .all(constants, |message, constant| message.message(5, constant.encode()))
            .message(11, input.encode())
            .message(12, output.encode());
        let model = Message::default()
            .int(1, IR_VERSION)
            .text(2, "rkd")
            .text(3, env!("CARGO_PKG_VERSION"))
            .message(7, graph)
            .message(8, Message::default().text(1, "").int(2, OPSET))
            .all(metadata, |message, (key, value)| message.message(14, Message::default().text(1, key).text(2, value)));
        if model.len() >= LARGEST_FILE {
            return Err(Error::new(Code::InvalidOption, "the model is too large for an ONNX file")
                .with_subject("dtype")
                .with_values("less than 2 GiB", format!("{} MiB", model.len() >> 20))
                .with_advice("choose float16 or int8"));
        }
        let mut bytes = Vec::with_capacity(model.len());
        model.write(&mut bytes).map_err(|e| Error::new(Code::Internal, format!("a model has no bytes: {e}")))?;
        Ok(bytes)
    }
}

impl Node {
    /// NodeProto.
    fn encode(self) -> Message {
        Message::default()
            .all(&self.inputs, |message, input| message.text(1, input))
            .text(2, &self.output)
            .text(3, &self.output)
            .text(4, self.operation)
            .all(self.attributes, |message, (name, value)| {
                // AttributeProto; the last field is the type.
                let attribute = Message::default().text(1, name);
                message.message(
                    5,
                    match value {
                        Attribute::Float(value) => attribute.float(2, value).int(20, 1),
                        Attribute::Int(value) => attribute.int(3, value).int(20, 2),
                        Attribute::Ints(values) => {
                            attribute.all(values, |message, value| message.int(8, value)).int(20, 7)
                        }
                    },
                )
            })
    }
}

impl Values {
    /// Their type.
    pub fn number(&self) -> Number {
        match self {
            Values::Float32(_) => Number::Float32,
            Values::Float16(_) => Number::Float16,
            Values::Int8(_) => Number::Int8,
            Values::Uint8(_) => Number::Uint8,
            Values::Int32(_) => Number::Int32,
            Values::Int64(_) => Number::Int64,
        }
    }

    fn bytes(self) -> Vec<u8> {
        match self {
            Values::Float32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Float16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Int8(values) => values.iter().map(|value| value.cast_unsigned()).collect(),
            Values::Uint8(values) => values,
            Values::Int32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Values::Int64(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }
}

impl Constant {
    /// TensorProto.
    fn encode(self) -> Message {
        Message::default()
            .all(&self.shape, |message, &length| message.int(1, length as i64))
            .int(2, self.values.number() as i64)
            .text(8, &self.name)
            .bytes(9, self.values.bytes())
    }
}

impl Tensor {
    /// ValueInfoProto.
    fn encode(self) -> Message {
        let shape = Message::default().all(&self.shape, |message, axis| {
            let axis = match axis {
                Axis::Length(length) => Message::default().int(1, *length as i64),
                Axis::Batch => Message::default().text(2, "batch"),
            };
            message.message(1, axis)
        });
        let tensor = Message::default().int(1, self.number as i64).message(2, shape);
        Message::default().text(1, &self.name).message(2, Message::default().message(1, tensor))
    }
}
