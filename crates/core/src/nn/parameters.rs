//! The parameters of a network: names, layouts, starts, and their values on a backend.
//!
//! Outside (files, [`HostTensor`]) a convolution weight is `[c_out, c_in / groups, h, w]` as in PyTorch; inside it is
//! `[h, w, c_in / groups, c_out]`, so that output channels lie side by side. All else has one layout.

use std::collections::{BTreeMap, HashSet};

use super::backend::Backend;
use crate::error::{Code, Error, Result};
use crate::random::Random;
use crate::tensor::{HostTensor, Init};

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
    /// Factor on the learning rate; 0 is frozen: no gradient, no change.
    pub rate: f64,
}

impl ParameterSpec {
    /// Whether an optimiser changes it: no running statistic, and not frozen.
    pub fn is_trained(&self) -> bool {
        self.layout != Layout::Statistic && self.rate > 0.0
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

    /// Zeros: what counts memory needs no start.
    pub fn zeros(backend: &B, specs: Vec<ParameterSpec>) -> Result<Self> {
        let values = specs.iter().map(|spec| backend.zeros(&spec.inner_shape())).collect::<Result<_>>()?;
        Ok(Parameters { specs, values })
    }

    /// Values from outside: finite, variances not negative. Every name must be there with its shape, and no other.
    pub fn from_tensors(
        backend: &B,
        specs: Vec<ParameterSpec>,
        tensors: &BTreeMap<String, HostTensor>,
    ) -> Result<Self> {
        check_names(&specs, tensors, &|_| false)?;
        specs.iter().try_for_each(|spec| check_values(spec, &tensors[&spec.name]))?;
        let values = specs.iter().map(|spec| spec.upload(backend, &tensors[&spec.name])).collect::<Result<_>>()?;
        Ok(Parameters { specs, values })
    }

    /// All values, outside layout, by name.
    pub fn to_tensors(&self, backend: &B) -> Result<BTreeMap<String, HostTensor>> {
        let entries = self.specs.iter().zip(&self.values);
        entries.map(|(spec, value)| Ok((spec.name.clone(), spec.download(backend, value)?))).collect()
    }

    /// Takes the tensors that belong here and leaves the other parameters as they are. Names that are not `excused` must
    /// be there with their shapes, and no others. A counter of batches may always be missing: files from before PyTorch
    /// 0.4.1 have none. What is taken must be finite, and variances not negative.
    pub fn take(
        &mut self,
        backend: &B,
        tensors: &BTreeMap<String, HostTensor>,
        excused: &dyn Fn(&str) -> bool,
    ) -> Result<Taken> {
        let counter = |name: &str| name.ends_with(".num_batches_tracked");
        check_names(&self.specs, tensors, &|name| counter(name) || excused(name))
            .map_err(|error| self.of_other_channels(tensors).unwrap_or(error))?;
        let fitting = |spec: &ParameterSpec| tensors.get(&spec.name).filter(|tensor| tensor.shape == spec.shape);
        self.specs.iter().try_for_each(|spec| fitting(spec).map_or(Ok(()), |tensor| check_values(spec, tensor)))?;
        let known: HashSet<&str> = self.specs.iter().map(|spec| spec.name.as_str()).collect();
        let ignored = tensors.keys().filter(|name| !known.contains(name.as_str())).cloned().collect();
        let (mut count, mut kept) = (0, Vec::new());
        for (spec, value) in self.specs.iter().zip(&mut self.values) {
            match fitting(spec) {
                Some(tensor) => {
                    *value = spec.upload(backend, tensor)?;
                    count += 1;
                }
                None if !counter(&spec.name) => kept.push(spec.name.clone()),
                None => {}
            }
        }
        Ok(Taken { count, kept, ignored })
    }

    /// The error for weights of a network that reads images of other channels, if that is all that is wrong.
    fn of_other_channels(&self, tensors: &BTreeMap<String, HostTensor>) -> Option<Error> {
        let (spec, tensor) = misshapen(&self.specs, tensors).next()?;
        let first = self.specs.iter().find(|spec| spec.layout == Layout::Convolution)?;
        let (&[a, theirs, b, c], &[x, ours, y, z]) = (tensor.shape.as_slice(), spec.shape.as_slice()) else {
            return None;
        };
        let only_channels = spec.name == first.name && [a, b, c] == [x, y, z];
        only_channels.then(|| {
            Error::new(Code::InvalidArtefact, format!("the weights are of a network for images of {theirs} channels"))
                .with_values(format!("{} of shape {:?}", spec.name, spec.shape), format!("{:?}", tensor.shape))
                .with_advice(format!("read the images with {theirs} channels; the network here takes {ours}"))
        })
    }

    /// Number of values that are parameters, frozen ones among them; running statistics are none.
    pub fn count(&self) -> usize {
        self.specs.iter().filter(|spec| spec.layout != Layout::Statistic).map(ParameterSpec::count).sum()
    }
}

/// What a network took of a file of weights that was made for another head or another network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Number of tensors taken.
    pub count: usize,
    /// Parameters of the network that keep their start.
    pub kept: Vec<String>,
    /// Tensors of the file that were left out.
    pub ignored: Vec<String>,
}

impl Taken {
    /// A full sentence about what was not taken; `None` where all was.
    pub fn warning(&self) -> Option<String> {
        let part = |names: &[String], what: &str| (!names.is_empty()).then(|| format!("{what}: {}", shorten(names)));
        let parts = [part(&self.kept, "keep their random start"), part(&self.ignored, "left out of the file")];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty())
            .then(|| format!("{} tensors were taken from the weights; {}.", self.count, parts.join("; ")))
    }
}

/// Checks that values are finite, and that a running variance, which is divided by, is not negative.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` that names the tensor and the first value that is wrong.
fn check_values(spec: &ParameterSpec, tensor: &HostTensor) -> Result<()> {
    let name = &spec.name;
    if let Some(value) = tensor.data.iter().find(|value| !value.is_finite()) {
        return Err(Error::new(Code::InvalidArtefact, format!("the tensor {name} is not finite"))
            .with_values("finite numbers within float32", value.to_string())
            .with_advice("the training that saved it has diverged; use an earlier checkpoint"));
    }
    let variance = spec.layout == Layout::Statistic && name.ends_with(".running_var");
    if let Some(value) = tensor.data.iter().find(|value| variance && **value < 0.0) {
        return Err(Error::new(Code::InvalidArtefact, format!("the tensor {name} is no variance"))
            .with_values("numbers that are not negative", value.to_string())
            .with_advice("the file is damaged or was changed by hand; write it again"));
    }
    Ok(())
}

/// Compares names and shapes; the error lists what is missing, unexpected and of another shape, but for names that are
/// `excused`.
fn check_names(
    specs: &[ParameterSpec],
    tensors: &BTreeMap<String, HostTensor>,
    excused: &dyn Fn(&str) -> bool,
) -> Result<()> {
    let mut problems = Vec::new();
    let names = specs.iter().map(|spec| spec.name.as_str());
    let known: HashSet<&str> = names.clone().collect();
    let missing: Vec<&str> = names.filter(|name| !tensors.contains_key(*name) && !excused(name)).collect();
    let unexpected = tensors.keys().map(String::as_str).filter(|name| !known.contains(name) && !excused(name));
    for (what, names) in [("missing", missing), ("unexpected", unexpected.collect())] {
        if !names.is_empty() {
            problems.push(format!("{what}: {}", shorten(&names)));
        }
    }
    let other = misshapen(specs, tensors).filter(|(spec, _)| !excused(&spec.name));
    let other: Vec<String> =
        other.map(|(spec, tensor)| format!("{} {:?} instead of {:?}", spec.name, tensor.shape, spec.shape)).collect();
    if !other.is_empty() {
        problems.push(format!("of another shape: {}", shorten(&other)));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArtefact, format!("the tensors do not fit the network; {}", problems.join("; ")))
        .with_advice("load the weights into the network they were saved from"))
}

/// The tensors whose shapes are not those of the parameters of the same names.
fn misshapen<'a>(
    specs: &'a [ParameterSpec],
    tensors: &'a BTreeMap<String, HostTensor>,
) -> impl Iterator<Item = (&'a ParameterSpec, &'a HostTensor)> {
    let both = specs.iter().filter_map(|spec| tensors.get(&spec.name).map(|tensor| (spec, tensor)));
    both.filter(|(spec, tensor)| spec.shape != tensor.shape || spec.count() != tensor.data.len())
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
            rate: 1.0,
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
        let bias = ParameterSpec { name: "bias".into(), shape: vec![3], layout: Layout::Plain, ..convolution() };
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
