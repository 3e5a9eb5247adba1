//! The ranges that activations have on real images.
//!
//! A graph in float32 runs on some training images, every tensor in question is watched, and its range is what lies between two
//! percentiles: a few outliers would else take most of the 256 steps (onnxruntime's percentile calibration). Values are counted
//! by the upper half of their bits, so a bound is exact to 1/128 of itself, all images count alike, and their order does not
//! matter.

use std::sync::Arc;

use rten::{Model, ModelOptions, NodeId, RunOptions, ThreadPool, Value, ValueView};
use rten_tensor::prelude::*;

use super::graph::{Graph, Number};
use super::int8::{Ranges, ranged_tensors};
use crate::error::{Code, Error, Result};
use crate::onnx::input::channels_first;

/// The share of values that ranges leave out, half of it at each end.
const LEFT_OUT: f64 = 1e-4;

/// Watches the tensors of a graph.
pub struct Calibration {
    model: Model,
    threads: Arc<ThreadPool>,
    input: (NodeId, Number),
    tensors: Vec<(String, NodeId)>,
    counts: Vec<Counts>,
}

impl Calibration {
    /// Of the tensors that quantising `graph` asks for.
    ///
    /// # Errors
    /// `ERR_INTERNAL` where the engine does not take the graph.
    pub fn new(graph: &Graph, threads: usize) -> Result<Calibration> {
        // Joined operations have no tensors between them.
        let mut options = ModelOptions::with_all_ops();
        options.enable_optimization(false);
        let model = options.load(graph.clone().encode(&[])?).map_err(|e| failed(&e))?;
        let find = |name: &str| model.find_node(name).ok_or_else(|| failed(&format!("{name} is not in the graph")));
        let input = (find(&graph.input.name)?, graph.input.number);
        let tensors = ranged_tensors(graph).into_iter().map(|name| Ok((name.clone(), find(&name)?)));
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
        let counts = tensors.iter().map(|_| Counts::default()).collect();
        let threads = Arc::new(ThreadPool::with_num_threads(threads.max(1)));
        Ok(Calibration { model, threads, input, tensors, counts })
    }

    /// Watches what `images [n, s, s, c]`, as the graph wants their pixels, make of the tensors.
    ///
    /// # Errors
    /// `ERR_INTERNAL` where the engine fails.
    pub fn watch(&mut self, images: &[f32], side: usize, channels: usize) -> Result<()> {
        let (input, number) = self.input;
        let n = images.len() / (side * side * channels).max(1);
        let (bytes, floats): (Vec<u8>, Vec<f32>);
        let view = match number {
            Number::Uint8 => {
                bytes = images.iter().map(|&value| value.round() as u8).collect();
                ValueView::from_shape([n, side, side, channels], bytes.as_slice()).map_err(|e| failed(&e))
            }
            _ => {
                floats = channels_first(images, side * side, channels);
                ValueView::from_shape([n, channels, side, side], floats.as_slice()).map_err(|e| failed(&e))
            }
        }?;
        let (given, wanted): (Vec<usize>, Vec<usize>) =
            (0..self.tensors.len()).partition(|&place| self.tensors[place].1 == input);
        for place in given {
            images.iter().for_each(|&value| self.counts[place].add(value));
        }
        let nodes: Vec<NodeId> = wanted.iter().map(|&place| self.tensors[place].1).collect();
        let options = RunOptions::default().with_thread_pool(Some(Arc::clone(&self.threads)));
        let outputs = self.model.run(vec![(input, view.into())], &nodes, Some(options)).map_err(|e| failed(&e))?;
        for (place, output) in wanted.into_iter().zip(outputs) {
            let Value::FloatTensor(tensor) = output else {
                return Err(failed(&format!("{} is no tensor of floats", self.tensors[place].0)));
            };
            tensor.iter().for_each(|&value| self.counts[place].add(value));
        }
        Ok(())
    }

    /// The ranges of what was watched.
    pub fn ranges(&self) -> Ranges {
        let names = self.tensors.iter().map(|(name, _)| name.clone());
        names.zip(self.counts.iter().map(|counts| counts.range(LEFT_OUT))).collect()
    }
}

fn failed(what: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("the graph cannot be calibrated: {what}"))
}

/// How often the upper halves of floats have come, in the order of the numbers.
struct Counts {
    all: u64,
    by_place: Vec<u64>,
}

impl Default for Counts {
    fn default() -> Self {
        Counts { all: 0, by_place: vec![0; 1 << 16] }
    }
}

impl Counts {
    fn add(&mut self, value: f32) {
        let bits = (value.to_bits() >> 16) as u16;
        // Negative numbers run backwards.
        let place = if bits >> 15 == 1 { !bits } else { bits | 1 << 15 };
        self.by_place[usize::from(place)] += 1;
        self.all += 1;
    }

    /// What lies between the shares `left_out / 2` and `1 - left_out / 2`; both 0 where nothing came.
    fn range(&self, left_out: f64) -> [f32; 2] {
        let beyond = (self.all as f64 * left_out / 2.0) as u64;
        let end = |mut places: Box<dyn Iterator<Item = usize> + '_>| {
            let mut passed = 0;
            let found = places.find(|&place| {
                passed += self.by_place[place];
                passed > beyond
            });
            found.map_or(0.0, value_at)
        };
        let places = 0..self.by_place.len();
        [end(Box::new(places.clone())), end(Box::new(places.rev()))]
    }
}

/// The number at the outer end of a place, so that what was counted there is within.
fn value_at(place: usize) -> f32 {
    let place = place as u32;
    let bits = if place >> 15 == 1 { place & 0x7fff } else { !place & 0xffff };
    let outer = f32::from_bits(bits << 16 | 0xffff);
    if outer.is_finite() { outer } else { f32::from_bits(bits << 16) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(values: impl IntoIterator<Item = f32>, left_out: f64) -> [f32; 2] {
        let mut counts = Counts::default();
        values.into_iter().for_each(|value| counts.add(value));
        counts.range(left_out)
    }

    #[test]
    fn ranges_hold_all_but_a_share_at_each_end() {
        assert_eq!(range([], 1e-4), [0.0, 0.0]);
        let [low, high] = range((-5000..=5000).map(|i| i as f32), 0.0);
        assert!((-5040.0..=-5000.0).contains(&low) && (5000.0..=5040.0).contains(&high), "{low} {high}");
        let outliers = (0..100_000).map(|i| i as f32 / 1e5).chain([1e6, -1e6, 2e6, -2e6]);
        let [low, high] = range(outliers, 1e-4);
        assert!((-1e-3..1e-3).contains(&low) && (0.99..=1.008).contains(&high), "{low} {high}");
    }

    #[test]
    fn the_order_of_values_is_that_of_numbers() {
        for values in [[-3.0, -1.0], [-2.0, 4.0], [0.5, 0.75]] {
            let [low, high] = range(values, 0.0);
            assert!((low / values[0] - 1.0).abs() < 0.01 && (high / values[1] - 1.0).abs() < 0.01, "{low} {high}");
        }
    }

    #[test]
    fn what_is_not_finite_is_seen() {
        assert!(!range([1.0, f32::INFINITY], 0.0)[1].is_finite());
        assert!(!range([1.0, f32::NAN], 0.0)[1].is_finite());
    }
}
