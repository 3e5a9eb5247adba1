//! The parameters of a network: names, layouts, starts, and their values on a backend.
//!
//! Outside (files, [`HostTensor`]) a convolution weight is `[c_out, c_in / groups, h, w]` as in PyTorch; inside it is
//! `[h, w, c_in / groups, c_out]`, so that output channels lie side by side. All else has one layout.

use std::collections::BTreeMap;

use super::backend::Backend;
use crate::artefact::tensors::HostTensor;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// How a parameter lies in memory and whether it is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// A trained parameter that is the same inside and outside.
    Plain,
    /// A trained convolution weight.
    Convolution,
    /// A running statistic: saved, not trained.
    Statistic,
}

/// The values before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All the same.
    Constant(f64),
    /// Uniform in `[-bound, bound)`.
    Uniform {
        /// Largest magnitude.
        bound: f64,
    },
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
}

/// One parameter of a network definition.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// torchvision's name.
    pub name: String,
    /// The shape outside.
    pub shape: Vec<usize>,
    /// Its layout.
    pub layout: Layout,
    /// Its start.
    pub init: Init,
}

impl ParameterSpec {
    /// Whether an optimiser changes it.
    pub fn is_trained(&self) -> bool {
        self.layout != Layout::Statistic
    }

    /// Number of values; that of a parameter beyond all bounds is the largest there is.
    pub fn count(&self) -> usize {
        self.shape.iter().copied().fold(1, usize::saturating_mul)
    }

    /// The shape inside.
    pub fn inner_shape(&self) -> Vec<usize> {
        match (self.layout, self.shape.as_slice()) {
            (Layout::Convolution, &[out, c, h, w]) => vec![h, w, c, out],
            _ => self.shape.clone(),
        }
    }

    /// The start's values, outside layout. The stream is keyed by the name: another layer added to a network does not
    /// change the start of this one.
    pub fn draw(&self, seed: u64) -> HostTensor {
        let mut random = Random::keyed(seed, 0, 0, &format!("init/{}", self.name));
        let mut value = || match self.init {
            Init::Constant(value) => value,
            Init::Uniform { bound } => random.between(-bound, bound),
            Init::Normal { deviation } => deviation * random.normal(),
        };
        HostTensor { shape: self.shape.clone(), data: (0..self.count()).map(|_| value() as f32).collect() }
    }

    /// Uploads values of the outside layout.
    pub fn upload<B: Backend>(&self, backend: &B, tensor: &HostTensor) -> Result<B::Tensor> {
        match (self.layout, self.shape.as_slice()) {
            (Layout::Convolution, &[out, c, h, w]) => {
                backend.from_f32(&transpose(&tensor.data, out, c * h * w, c, h * w), &[h, w, c, out])
            }
            _ => backend.from_f32(&tensor.data, &self.shape),
        }
    }

    /// Downloads values to the outside layout.
    pub fn download<B: Backend>(&self, backend: &B, tensor: &B::Tensor) -> Result<HostTensor> {
        let inner = backend.to_f32(tensor)?;
        Ok(HostTensor { shape: self.shape.clone(), data: self.outside(&inner) })
    }

    /// Values of the inside layout in the outside one.
    pub fn outside<N: Copy>(&self, inner: &[N]) -> Vec<N> {
        match (self.layout, self.shape.as_slice()) {
            (Layout::Convolution, &[out, c, h, w]) => {
                let at = |o: usize, i: usize, p: usize| inner[(p * c + i) * out + o];
                let places = (0..out).flat_map(|o| (0..c).flat_map(move |i| (0..h * w).map(move |p| (o, i, p))));
                places.map(|(o, i, p)| at(o, i, p)).collect()
            }
            _ => inner.to_vec(),
        }
    }
}

/// `[out][c][area]` to `[area][c][out]`.
fn transpose(data: &[f32], out: usize, row: usize, c: usize, area: usize) -> Vec<f32> {
    let places = (0..area).flat_map(|p| (0..c).flat_map(move |i| (0..out).map(move |o| o * row + i * area + p)));
    places.map(|place| data[place]).collect()
}

/// The parameters of one network on a backend, in the definition's order.
#[derive(Clone, Debug)]
pub struct Parameters<B: Backend> {
    /// Names, shapes, layouts.
    pub specs: Vec<ParameterSpec>,
    /// The values, one for each spec.
    pub values: Vec<B::Tensor>,
}

impl<B: Backend> Parameters<B> {
    /// The start that belongs to `seed`.
    pub fn draw(backend: &B, specs: Vec<ParameterSpec>, seed: u64) -> Result<Self> {
        let values = specs.iter().map(|spec| spec.upload(backend, &spec.draw(seed))).collect::<Result<_>>()?;
        Ok(Parameters { specs, values })
    }

    /// Values from outside. Every name must be there with its shape, and no other.
    pub fn from_tensors(
        backend: &B,
        specs: Vec<ParameterSpec>,
        tensors: &BTreeMap<String, HostTensor>,
    ) -> Result<Self> {
        check_names(&specs, tensors)?;
        let values = specs.iter().map(|spec| spec.upload(backend, &tensors[&spec.name])).collect::<Result<_>>()?;
        Ok(Parameters { specs, values })
    }

    /// All values, outside layout, by name.
    pub fn to_tensors(&self, backend: &B) -> Result<BTreeMap<String, HostTensor>> {
        let entries = self.specs.iter().zip(&self.values);
        entries.map(|(spec, value)| Ok((spec.name.clone(), spec.download(backend, value)?))).collect()
    }

    /// Number of trained values.
    pub fn count(&self) -> usize {
        self.specs.iter().filter(|spec| spec.is_trained()).map(ParameterSpec::count).sum()
    }
}

/// Compares names and shapes; the error lists what is missing, unexpected and of another shape.
fn check_names(specs: &[ParameterSpec], tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
    let mut problems = Vec::new();
    let missing: Vec<&str> =
        specs.iter().filter(|spec| !tensors.contains_key(&spec.name)).map(|spec| spec.name.as_str()).collect();
    let known: std::collections::HashSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    let unexpected: Vec<&str> = tensors.keys().map(String::as_str).filter(|name| !known.contains(name)).collect();
    let other: Vec<String> = specs
        .iter()
        .filter_map(|spec| tensors.get(&spec.name).map(|tensor| (spec, tensor)))
        .filter(|(spec, tensor)| spec.shape != tensor.shape || spec.count() != tensor.data.len())
        .map(|(spec, tensor)| format!("{} {:?} instead of {:?}", spec.name, tensor.shape, spec.shape))
        .collect();
    for (what, names) in [("missing", missing), ("unexpected", unexpected)] {
        if !names.is_empty() {
            problems.push(format!("{what}: {}", shorten(&names)));
        }
    }
    if !other.is_empty() {
        problems.push(format!("of another shape: {}", shorten(&other)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArtefact, format!("the tensors do not fit the network; {}", problems.join("; ")))
        .with_advice("load the weights into the network they were saved from"))
}

fn shorten<S: AsRef<str>>(names: &[S]) -> String {
    let shown: Vec<&str> = names.iter().take(8).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(shown.len());
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Portable;

    fn convolution() -> ParameterSpec {
        ParameterSpec {
            name: "conv.weight".into(),
            shape: vec![2, 3, 1, 2],
            layout: Layout::Convolution,
            init: Init::Uniform { bound: 0.5 },
        }
    }

    #[test]
    fn layouts_go_in_and_out() {
        let backend = Portable::cpu_f32();
        let spec = convolution();
        let outside = HostTensor { shape: spec.shape.clone(), data: (0..12).map(|i| i as f32).collect() };
        let inside = spec.upload(&backend, &outside).unwrap();
        assert_eq!(Portable::shape(&inside), [1, 2, 3, 2]);
        // [out 1][c 2][h 0][w 1] = 11 lies at [h 0][w 1][c 2][out 1], the last place; [0][1][0][0] = 2 at [0][0][1][0].
        let values = backend.to_f32(&inside).unwrap();
        assert_eq!((values[11], values[2], values[1]), (11.0, 2.0, 6.0));
        assert_eq!(spec.download(&backend, &inside).unwrap(), outside);
    }

    #[test]
    fn a_start_belongs_to_seed_and_name() {
        let spec = convolution();
        let other = ParameterSpec { name: "other.weight".into(), ..spec.clone() };
        assert_eq!(spec.draw(1), spec.draw(1));
        assert_ne!(spec.draw(1), spec.draw(2));
        assert_ne!(spec.draw(1), other.draw(1));
        assert!(spec.draw(1).data.iter().all(|v| v.abs() <= 0.5));
    }

    #[test]
    fn missing_unexpected_and_misshapen_tensors_are_listed() {
        let backend = Portable::cpu_f32();
        let bias =
            ParameterSpec { name: "bias".into(), shape: vec![3], layout: Layout::Plain, init: Init::Constant(0.) };
        let specs = vec![convolution(), bias];
        let wrong = HostTensor { shape: vec![4], data: vec![0.0; 4] };
        let tensors = BTreeMap::from([("bias".to_string(), wrong.clone()), ("extra".to_string(), wrong)]);
        let error = Parameters::from_tensors(&backend, specs, &tensors).unwrap_err();
        assert_eq!(error.code, Code::InvalidArtefact);
        let text = error.to_string();
        for part in ["missing: conv.weight", "unexpected: extra", "bias [4] instead of [3]"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
