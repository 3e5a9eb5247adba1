//! Weights in float16: half the file, the same arithmetic.
//!
//! Every weight is rounded to float16 and widened by a `Cast` in front of its operation, which engines do once, when they load
//! the file. Arithmetic stays float32: on processors float16 would be slower, and activations beyond 65,504 would overflow.

use half::f16;

use super::graph::{Attribute, Graph, Node, Number, Values};
use crate::error::{Code, Error, Result};

/// `graph` with its weights in float16; biases, which are few, stay.
///
/// # Errors
/// `ERR_NON_FINITE` for a weight beyond float16.
pub fn with_float16_weights(mut graph: Graph) -> Result<Graph> {
    let mut casts = Vec::new();
    for constant in &mut graph.constants {
        let Values::Float32(values) = &constant.values else { continue };
        if !constant.name.ends_with(".weight") {
            continue;
        }
        let halves: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
        if let Some(place) = halves.iter().position(|value| !value.is_finite()) {
            return Err(Error::new(Code::NonFinite, format!("a weight of {} is beyond float16", constant.name))
                .with_subject("dtype")
                .with_values(format!("numbers up to {}", f16::MAX), values[place].to_string())
                .with_advice("choose float32"));
        }
        constant.values = Values::Float16(halves);
        let wide = constant.name.clone();
        constant.name += ".float16";
        let to = vec![("to", Attribute::Int(Number::Float32 as i64))];
        casts.push(Node { operation: "Cast", inputs: vec![constant.name.clone()], output: wide, attributes: to });
    }
    graph.nodes.splice(0..0, casts);
    Ok(graph)
}
