//! The numbers that losses learn beside the network: the map of a hint, for example.
//!
//! They start by keyed random numbers, are trained by the network's optimiser (whose clipping counts them) and travel in
//! the checkpoint. The exported model has none of them.

use std::ops::Range;

use crate::error::Result;
use crate::losses::Matrix;
use crate::nn::Backend;
use crate::nn::parameters::{ParameterSpec, Parameters};

/// The parameters of all terms, on the device.
pub struct LossParameters<B: Backend> {
    /// Those of the first term, then those of the next.
    pub list: Parameters<B>,
    /// Where in the list those of each term are.
    terms: Vec<Range<usize>>,
}

impl<B: Backend> LossParameters<B> {
    /// Those of each term, with the start that belongs to `seed`.
    pub fn draw(backend: &B, terms: Vec<Vec<ParameterSpec>>, seed: u64) -> Result<Self> {
        let mut end = 0;
        let range = |specs: &Vec<ParameterSpec>| {
            end += specs.len();
            end - specs.len()..end
        };
        let ranges = terms.iter().map(range).collect();
        Ok(LossParameters { list: Parameters::draw(backend, terms.concat(), seed)?, terms: ranges })
    }

    /// Those of the term at `term`, on the device.
    pub fn of_term(&self, term: usize) -> &[B::Tensor] {
        &self.list.values[self.terms[term].clone()]
    }

    /// Those of each term as losses take them, from the values on the host.
    pub fn matrices(&self, values: &mut impl Iterator<Item = Vec<f64>>) -> Result<Vec<Vec<Matrix>>> {
        let mut term = |places: &Range<usize>| {
            let specs = self.list.specs[places.clone()].iter();
            specs.zip(&mut *values).map(|(spec, data)| Matrix::owned(&spec.name, data, &spec.shape)).collect()
        };
        self.terms.iter().map(&mut term).collect()
    }

    /// The gradient of each parameter for the optimiser: of the terms in turn from the host, or from the device those of a
    /// term with its place; `None` for those that do not change.
    pub fn gradients(
        &self,
        backend: &B,
        host: &[Vec<Vec<f64>>],
        device: impl Iterator<Item = (usize, Vec<B::Tensor>)>,
    ) -> Result<Vec<Option<B::Tensor>>> {
        let mut all = vec![None; self.list.specs.len()];
        for (places, gradients) in self.terms.iter().zip(host) {
            for (place, gradient) in places.clone().zip(gradients) {
                all[place] = Some(backend.from_f64(gradient, &self.list.specs[place].shape)?);
            }
        }
        for (term, gradients) in device {
            for (place, gradient) in self.terms[term].clone().zip(gradients) {
                all[place] = self.list.specs[place].is_trained().then_some(gradient);
            }
        }
        Ok(all)
    }
}
