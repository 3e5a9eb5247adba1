//! Which pixels a graph takes: layout, size, channels, and whether it normalises them itself.
//!
//! Images go in as `[n, 3, h, w]` or `[n, h, w, 3]`, bytes or floats. Bytes are always raw. Floats are raw where the graph
//! begins by subtracting or dividing by constants of its own; else they are what torchvision calls normalised:
//! `(pixel / 255 - mean) / std`.

use super::graph::{Axis, Graph, Number, TensorForm};
use crate::error::{Code, Error, Result};

/// The largest side of the images, in pixels: that of all images here.
pub const LARGEST_SIZE: usize = 1024;

/// The order of the axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[n, c, h, w]`, PyTorch's.
    ChannelsFirst,
    /// `[n, h, w, c]`, TensorFlow's.
    ChannelsLast,
}

/// What one unit of a pixel is when it goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// 0 to 255: the graph does the rest.
    Raw,
    /// 0 to 1: the graph does the rest.
    Unit,
    /// Mean and deviation of each channel taken off outside.
    Normalized,
}

/// What goes into a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct InputForm {
    /// The tensor's name.
    pub name: String,
    /// Its axes.
    pub layout: Layout,
    /// Whether bytes go in; else float32 (float16 graphs are fed float32 that is rounded).
    pub number: Number,
    /// 1 or 3.
    pub channels: usize,
    /// Height and width, where the graph fixes them.
    pub size: Option<usize>,
    /// Images at once, where the graph fixes them.
    pub batch: Option<usize>,
    /// What the graph expects of a pixel.
    pub scale: Scale,
}

/// Images `[n, p, c]` of `places` p and `channels` c as `[n, c, p]`.
pub fn channels_first(images: &[f32], places: usize, channels: usize) -> Vec<f32> {
    images
        .chunks_exact((places * channels).max(1))
        .flat_map(|image| (0..channels).flat_map(move |channel| image[channel..].iter().step_by(channels).copied()))
        .collect()
}

/// Finds out what `graph` takes.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for a graph that does not take images, or of two sizes, with what it takes.
pub fn input_of(graph: &Graph) -> Result<InputForm> {
    let images: Vec<&TensorForm> = graph.inputs.iter().filter(|input| axes_of(input).is_some()).collect();
    let [input] = images[..] else {
        return Err(refuse(graph, "one input of images, [n, 3, h, w] or [n, h, w, 3]"));
    };
    if graph.inputs.len() > 1 {
        return Err(refuse(graph, "no input beside the images"));
    }
    let Some((layout, channels, height, width)) = axes_of(input) else {
        return Err(refuse(graph, "one input of images"));
    };
    let size = match (height.fixed(), width.fixed()) {
        (Some(h), Some(w)) if h != w => return Err(refuse(graph, "square images")),
        (h, w) => h.or(w),
    };
    let batch = input.shape.as_ref().and_then(|shape| shape[0].fixed());
    let scale = scale_of(graph, input);
    Ok(InputForm { name: input.name.clone(), layout, number: input.number, channels, size, batch, scale })
}

/// Layout, channels, height and width of an input of images.
fn axes_of(input: &TensorForm) -> Option<(Layout, usize, &Axis, &Axis)> {
    if matches!(input.number, Number::Other(_)) {
        return None;
    }
    let [_, a, b, c] = input.shape.as_deref()? else { return None };
    let colours = |axis: &Axis| axis.fixed().filter(|&channels| channels == 1 || channels == 3);
    match (colours(a), colours(c)) {
        (Some(channels), None) => Some((Layout::ChannelsFirst, channels, b, c)),
        (None, Some(channels)) => Some((Layout::ChannelsLast, channels, a, b)),
        // Neither axis says so: PyTorch's exports with everything dynamic.
        (None, None) if a.fixed().is_none() && c.fixed().is_none() => Some((Layout::ChannelsFirst, 3, b, c)),
        _ => None,
    }
}

/// Follows the pixels up to the first operation that is more than arithmetic with constants.
fn scale_of(graph: &Graph, input: &TensorForm) -> Scale {
    if input.number == Number::Byte {
        return Scale::Raw;
    }
    let mut name = input.name.as_str();
    let mut normalizes = false;
    for _ in 0..16 {
        let mut readers = graph.readers(name);
        let (Some(node), None) = (readers.next(), readers.next()) else { break };
        let other = node.inputs.iter().find(|other| *other != name).and_then(|other| graph.constant(other));
        match (node.operation.as_str(), other) {
            ("Cast" | "Identity" | "Transpose", _) => {}
            // A division by 255, or by a deviation of raw pixels.
            ("Div", Some(numbers)) if numbers.iter().all(|&number| number > 10.0) => return Scale::Raw,
            ("Mul", Some(numbers)) if numbers.iter().all(|&number| number < 0.1) => return Scale::Raw,
            // A mean of raw pixels.
            ("Sub", Some(numbers)) if numbers.iter().all(|&number| number > 10.0) => return Scale::Raw,
            ("Sub" | "Div" | "Add" | "Mul" | "BatchNormalization", Some(_)) => normalizes = true,
            _ => break,
        }
        let Some(next) = node.outputs.first() else { break };
        name = next;
    }
    if normalizes { Scale::Unit } else { Scale::Normalized }
}

fn refuse(graph: &Graph, expected: &str) -> Error {
    let inputs: Vec<String> = graph.inputs.iter().map(TensorForm::to_string).collect();
    let received = if inputs.is_empty() { "no input at all".to_string() } else { inputs.join(", ") };
    Error::new(Code::InvalidArtefact, "the model does not take images in a form that is known here")
        .with_subject(graph.path.display().to_string())
        .with_values(expected, received)
        .with_advice("export the image encoder alone; or embed your images elsewhere and give the stored vectors")
}
