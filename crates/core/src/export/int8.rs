//! Static quantisation to 8 bits: activations unsigned, weights signed and channel by channel.
//!
//! ```text
//! x ~ s_x (q_x - z_x),  q_x in 0..=255       w_o ~ s_o q_o,  q_o in -127..=127       b_o ~ s_x s_o q,  q of 32 bits
//! ```
//! The graph stays one of floats in which every quantised tensor goes through `QuantizeLinear` and `DequantizeLinear` (QDQ,
//! Jacob et al. 2018; onnxruntime's name for the form): an engine joins them with the operation between and computes in whole
//! numbers, or runs the graph as it stands. s_x and z_x are fixed beforehand, from the ranges that [`calibrate`](super::calibrate)
//! has seen; quantising anew for each image ("dynamic") makes convolutions slower than in float32.
//!
//! A ReLU and what it follows are one: only the end is quantised. Pools of maxima and flattening keep their input's s and z.
//! The last linear layer gives floats, and the norm is floats, so that the embedding itself is not rounded. In a transformer
//! only convolutions and linear layers compute in whole numbers: the few large channels of its sums would take the 256 steps
//! for themselves.

use std::collections::{BTreeMap, HashMap};

use super::graph::{Attribute, Constant, Graph, Node, Values};
use crate::error::{Code, Error, Result};

/// The smallest and largest value of each tensor, by name.
pub type Ranges = BTreeMap<String, [f32; 2]>;

/// Operations that compute in whole numbers between quantised tensors.
const QUANTIZED: &[&str] = &[
    "Conv",
    "Gemm",
    "Add",
    "Mul",
    "Concat",
    "Relu",
    "Clip",
    "HardSwish",
    "HardSigmoid",
    "Sigmoid",
    "MaxPool",
    "GlobalAveragePool",
    "Flatten",
];

/// Those of them whose output has the values of their input.
const SAME_VALUES: &[&str] = &["MaxPool", "Flatten"];

/// The largest quantised bias: far from the end of 32 bits, as sums of products are added to it.
const LARGEST_BIAS: f64 = (1u32 << 30) as f64;

/// The operations of `graph` that compute in whole numbers between quantised tensors.
fn quantized_operations(graph: &Graph) -> &'static [&'static str] {
    let is_transformer = graph.nodes.iter().any(|node| node.operation == "LayerNormalization");
    if is_transformer { &["Conv", "Gemm"] } else { QUANTIZED }
}

/// Whether `node` computes in whole numbers, as `operations` do. What only moves values does where something behind it does.
fn is_quantized(graph: &Graph, operations: &[&str], node: &Node) -> bool {
    let moves = SAME_VALUES.contains(&node.operation);
    operations.contains(&node.operation)
        && (!moves || graph.readers(&node.output).any(|reader| is_quantized(graph, operations, reader)))
}

/// The tensors that are quantised, each with the one whose range counts: of a pool of maxima its input.
fn quantized_tensors(graph: &Graph) -> Vec<(String, String)> {
    let operations = quantized_operations(graph);
    let is_quantized = |node: &Node| is_quantized(graph, operations, node);
    // The first one is made of pixels, by the caller or by the graph.
    let first = graph.nodes.iter().find(|node| is_quantized(node)).map(|node| &node.inputs[0]);
    let mut sources: HashMap<&str, &str> = HashMap::new();
    let mut found = Vec::new();
    for name in first.into_iter().chain(graph.nodes.iter().map(|node| &node.output)) {
        let joined = graph.readers(name).all(|reader| matches!(reader.operation, "Relu" | "Clip"));
        if sources.contains_key(&name[..]) || joined || !graph.readers(name).any(is_quantized) {
            continue;
        }
        let producer = graph.nodes.iter().find(|node| node.output == *name);
        let input = producer.filter(|node| SAME_VALUES.contains(&node.operation)).map(|node| node.inputs[0].as_str());
        let source = input.and_then(|input| sources.get(input).copied()).unwrap_or(name);
        sources.insert(name, source);
        found.push((name.clone(), source.to_string()));
    }
    found
}

/// The tensors whose ranges [`quantize`] wants.
pub fn ranged_tensors(graph: &Graph) -> Vec<String> {
    let mut names: Vec<String> = quantized_tensors(graph).into_iter().map(|(_, source)| source).collect();
    names.sort();
    names.dedup();
    names
}

/// Scale and zero point of a tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Grid {
    scale: f32,
    zero: u8,
}

impl Grid {
    /// The grid of `[low, high]`, in which 0 has a place of its own: padding and ReLU are exact.
    fn of([low, high]: [f32; 2]) -> Grid {
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = if high > low { (high - low) / 255.0 } else { 1.0 };
        Grid { scale: (scale as f32).max(f32::MIN_POSITIVE), zero: (-low / scale).round().clamp(0.0, 255.0) as u8 }
    }
}

/// `graph`, a float32 one of [`graph_of`](super::network::graph_of), quantised.
///
/// # Errors
/// `ERR_INTERNAL` where a range is missing, `ERR_NON_FINITE` where one is none.
pub fn quantize(graph: Graph, ranges: &Ranges) -> Result<Graph> {
    let mut grids: HashMap<String, Grid> = HashMap::new();
    for (name, source) in quantized_tensors(&graph) {
        let range = *ranges
            .get(&source)
            .ok_or_else(|| Error::new(Code::Internal, format!("the range of {source} was not measured")))?;
        if !range.iter().all(|value| value.is_finite()) {
            return Err(Error::new(Code::NonFinite, format!("an activation of {source} is not finite"))
                .with_subject("dtype")
                .with_advice("the model's training has diverged; use an earlier or another model"));
        }
        grids.insert(name, Grid::of([range[0], range[1].min(ceiling(&graph, &source))]));
    }
    let operations = quantized_operations(&graph);
    let quantized: Vec<bool> = graph.nodes.iter().map(|node| is_quantized(&graph, operations, node)).collect();
    let Graph { name, nodes, constants, input, output } = graph;
    let mut constants: BTreeMap<String, Constant> =
        constants.into_iter().map(|constant| (constant.name.clone(), constant)).collect();
    let mut out = Graph { name, nodes: Vec::new(), constants: Vec::new(), input, output };
    if let Some(grid) = grids.get(&out.input.name) {
        let name = out.input.name.clone();
        add_grid(&mut out, &name, *grid);
    }
    for (mut node, quantized) in nodes.into_iter().zip(quantized) {
        if quantized {
            if matches!(node.operation, "Conv" | "Gemm") {
                weights(&mut out, &mut constants, &mut node, &grids)?;
            }
            for input in node.inputs.iter_mut().filter(|input| grids.contains_key(*input)) {
                *input = dequantized(input);
            }
        }
        let name = node.output.clone();
        out.nodes.push(node);
        if let Some(grid) = grids.get(&name) {
            add_grid(&mut out, &name, *grid);
        }
    }
    out.constants.extend(constants.into_values());
    Ok(out)
}

/// What a `Clip` holds the tensor below: a grid that ends there makes the `Clip` itself idle, and onnxruntime drops it only
/// then. Just below, so that rounding does not end it above.
fn ceiling(graph: &Graph, name: &str) -> f32 {
    let clip = graph.nodes.iter().find(|node| node.output == name && node.operation == "Clip");
    let bound = clip.and_then(|clip| graph.constants.iter().find(|constant| constant.name == clip.inputs[2]));
    match bound.map(|constant| &constant.values) {
        Some(Values::Float32(bound)) => bound[0] * (1.0 - 1e-6),
        _ => f32::INFINITY,
    }
}

fn dequantized(name: &str) -> String {
    format!("{name}.dequantized")
}

/// Sends a tensor through its grid.
fn add_grid(graph: &mut Graph, name: &str, Grid { scale, zero }: Grid) {
    let scale = graph.constant(format!("{name}.scale"), &[], Values::Float32(vec![scale]));
    let zero = graph.constant(format!("{name}.zero_point"), &[], Values::Uint8(vec![zero]));
    let quantized = graph.add("QuantizeLinear", &[name, &scale, &zero], format!("{name}.quantized"), Vec::new());
    graph.add("DequantizeLinear", &[&quantized, &scale, &zero], dequantized(name), Vec::new());
}

/// Quantises weight and bias of a convolution or a linear layer, output channel by output channel.
fn weights(
    graph: &mut Graph,
    constants: &mut BTreeMap<String, Constant>,
    node: &mut Node,
    grids: &HashMap<String, Grid>,
) -> Result<()> {
    let missing = || Error::new(Code::Internal, format!("{} has no weight or no range", node.output));
    let input = grids.get(&node.inputs[0]).ok_or_else(missing)?.scale;
    let Some(Constant { name, shape, values: Values::Float32(weight) }) = constants.remove(&node.inputs[1]) else {
        return Err(missing());
    };
    let outputs = shape.first().copied().unwrap_or(1);
    let bias = match node.inputs.get(2).and_then(|bias| constants.remove(bias)) {
        Some(Constant { values: Values::Float32(bias), .. }) => bias,
        _ => vec![0.0; outputs],
    };
    let rows: Vec<&[f32]> = weight.chunks_exact((weight.len() / outputs.max(1)).max(1)).collect();
    let scales: Vec<f32> = rows.iter().zip(&bias).map(|(row, &bias)| weight_scale(row, bias, input)).collect();
    let quantized = rows.iter().zip(&scales).flat_map(|(row, &scale)| {
        row.iter().map(move |&value| (f64::from(value) / f64::from(scale)).round_ties_even().clamp(-127.0, 127.0) as i8)
    });
    let quantized = Values::Int8(quantized.collect());
    let biases = bias.iter().zip(&scales).map(|(&bias, &scale)| {
        (f64::from(bias) / (f64::from(input) * f64::from(scale))).round_ties_even().clamp(-LARGEST_BIAS, LARGEST_BIAS)
            as i32
    });
    let biases = Values::Int32(biases.collect());
    let products = scales.iter().map(|&scale| input * scale).collect();
    let (layer, axis) = (node.output.clone(), vec![("axis", Attribute::Int(0))]);
    let quantized = graph.constant(format!("{name}.quantized"), &shape, quantized);
    let scale = graph.constant(format!("{name}.scale"), &[outputs], Values::Float32(scales));
    let zero = graph.constant(format!("{name}.zero_point"), &[outputs], Values::Int8(vec![0; outputs]));
    node.inputs[1] = graph.add("DequantizeLinear", &[&quantized, &scale, &zero], name, axis.clone());
    let quantized = graph.constant(format!("{layer}.bias.quantized"), &[outputs], biases);
    let scale = graph.constant(format!("{layer}.bias.scale"), &[outputs], Values::Float32(products));
    let bias = graph.add("DequantizeLinear", &[&quantized, &scale], format!("{layer}.bias"), axis);
    node.inputs.truncate(2);
    node.inputs.push(bias);
    Ok(())
}

/// The scale of one output channel: its largest weight is 127, and its bias, in steps of this scale and the input's, has 32
/// bits.
fn weight_scale(row: &[f32], bias: f32, input: f32) -> f32 {
    let largest = row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let of_bias = f64::from(bias.abs()) / (f64::from(input) * LARGEST_BIAS);
    let scale = (f64::from(largest) / 127.0).max(of_bias) as f32;
    if scale.is_normal() { scale } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_has_a_place_of_its_own() {
        for range in [[-1.0, 1.0], [0.0, 6.0], [-3.0, 0.0], [0.5, 2.0], [-2.0, -1.0], [0.0, 0.0], [-0.01, 5.0]] {
            let Grid { scale, zero } = Grid::of(range);
            let lowest = -f32::from(zero) * scale;
            let highest = f32::from(255 - zero) * scale;
            // A step of rounding at either end.
            assert!(lowest <= range[0].min(0.0) + scale && highest >= range[1].max(0.0) - scale, "{range:?}");
            assert!(scale.is_normal());
        }
        assert_eq!(Grid::of([0.0, 255.0]), Grid { scale: 1.0, zero: 0 });
        assert_eq!(Grid::of([-255.0, -10.0]), Grid { scale: 1.0, zero: 255 });
    }

    #[test]
    fn a_bias_keeps_its_bits_where_the_weights_are_small_or_none() {
        assert_eq!(weight_scale(&[0.0, -2.54, 1.0], 0.0, 1.0), 0.02);
        assert_eq!(weight_scale(&[0.0], 0.0, 1.0), 1.0);
        for row in [&[0.0][..], &[1e-12]] {
            let scale = weight_scale(row, 3.0, 0.01);
            let bias = (3.0 / (0.01 * f64::from(scale))).round();
            assert!(bias <= LARGEST_BIAS * 1.000_001, "{bias}");
            assert!((bias * 0.01 * f64::from(scale) - 3.0).abs() < 1e-6);
        }
    }
}
