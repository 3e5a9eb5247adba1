//! One optimiser for a list of parameters: clipping, the update of each, and its state by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::OptimizerSpec;
use crate::error::{Code, Error, Result};
use crate::nn::backend::{AdamStep, AdamUpdate, Backend, Norms, SgdStep, SgdUpdate};
use crate::nn::parameters::{ParameterSpec, Parameters};
use crate::nn::profile::{Category, Cost, Profile};
use crate::tensor::HostTensor;

/// The Euclidean norm of all gradients together, before clipping.
#[derive(Clone, Debug)]
pub enum GradientNorm<T> {
    /// Known to the host; it is finite.
    Known(f64),
    /// On a device.
    Pending {
        /// The norm of each gradient, see [`Norms::Pending`].
        norms: T,
        /// The parameters they belong to.
        names: Vec<String>,
    },
}

impl<T> GradientNorm<T> {
    /// The norm; `read` brings a pending one to the host.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` if a gradient has an entry that is no finite number, naming the parameter.
    pub fn read(&self, read: impl FnOnce(&T) -> Result<Vec<f64>>) -> Result<f64> {
        match self {
            GradientNorm::Known(norm) => Ok(*norm),
            GradientNorm::Pending { norms, names } => {
                let squares: Vec<f64> = read(norms)?.iter().map(|norm| norm * norm).collect();
                total(&squares, |place| &names[place])
            }
        }
    }
}

/// An optimiser and its state.
#[derive(Clone, Debug)]
pub struct Optimizer<B: Backend> {
    spec: OptimizerSpec,
    step: u64,
    /// Steps that each parameter has taken, PyTorch's `step`: it takes none without a gradient, while its losses rest.
    counts: Vec<u64>,
    /// For each parameter one tensor for each of [`slots`]; none before the first step.
    state: Vec<Vec<B::Tensor>>,
    profile: Arc<Profile>,
}

/// PyTorch's names of the state of one parameter.
fn slots(spec: &OptimizerSpec) -> &'static [&'static str] {
    match spec {
        OptimizerSpec::Adam { .. } | OptimizerSpec::AdamW { .. } => &["exp_avg", "exp_avg_sq"],
        OptimizerSpec::Sgd { momentum, .. } if *momentum > 0.0 => &["momentum_buffer"],
        OptimizerSpec::Sgd { .. } => &[],
    }
}

impl<B: Backend> Optimizer<B> {
    /// An optimiser before its first step. An error names the constant that is out of range.
    pub fn new(spec: &OptimizerSpec) -> Result<Self> {
        spec.validate()?;
        Ok(Optimizer { spec: spec.clone(), step: 0, counts: Vec::new(), state: Vec::new(), profile: Arc::default() })
    }

    /// From now on notes the time of its operations in `profile`, while that is recording.
    pub fn set_profile(&mut self, profile: &Arc<Profile>) {
        self.profile = Arc::clone(profile);
    }

    /// Numbers of its state; none before the first step.
    pub fn state_size(&self) -> usize {
        self.state.iter().flatten().map(|tensor| B::shape(tensor).iter().product::<usize>()).sum()
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Changes the parameters of `groups` along `gradients` (one entry for each parameter, `None` for running
    /// statistics, frozen ones and those that no loss reaches in this step) with step size `learning_rate`, times the
    /// parameter's own rate. The groups are the same in every step.
    /// Gradients whose common norm exceeds `largest_norm` are scaled down to it, as PyTorch's `clip_grad_norm_` does.
    ///
    /// # Errors
    ///
    /// `ERR_NON_FINITE` if a gradient has an entry that is no finite number, naming the parameter. The parameters are
    /// then unchanged. Where norms are [pending](Norms::Pending) it comes when the report is read, after the change.
    /// See [`check_all_reached`] for parameters without gradient: they stay as they are.
    pub fn step(
        &mut self,
        backend: &B,
        groups: &mut [&mut Parameters<B>],
        mut gradients: Vec<Option<B::Tensor>>,
        learning_rate: f64,
        largest_norm: Option<f64>,
    ) -> Result<GradientNorm<B::Tensor>> {
        let specs: Vec<&ParameterSpec> = groups.iter().flat_map(|group| &group.specs).collect();
        let norm = self.clip(backend, &specs, &mut gradients, largest_norm)?;
        self.allocate(backend, &specs)?;
        self.step += 1;
        let parameters = groups.iter_mut().flat_map(|group| group.specs.iter().zip(&mut group.values));
        let places = self.counts.iter_mut().zip(&mut self.state);
        let mut updates = Vec::new();
        for (((spec, parameter), gradient), (count, state)) in parameters.zip(&gradients).zip(places) {
            let Some(gradient) = gradient else { continue };
            *count += 1;
            updates.push(Update { spec, parameter, gradient, state, rate: learning_rate * spec.rate, count: *count });
        }
        match backend.updates_at_once() {
            true => update(backend, &self.spec, &self.profile, updates)?,
            false => updates.into_iter().try_for_each(|one| update(backend, &self.spec, &self.profile, vec![one]))?,
        }
        Ok(norm)
    }

    /// Scales the gradients down to `largest_norm` and gives their norm before: one reduction over all of them.
    fn clip(
        &self,
        backend: &B,
        specs: &[&ParameterSpec],
        gradients: &mut [Option<B::Tensor>],
        largest_norm: Option<f64>,
    ) -> Result<GradientNorm<B::Tensor>> {
        let (names, tensors): (Vec<&String>, Vec<&B::Tensor>) = specs
            .iter()
            .zip(gradients.iter())
            .filter_map(|(spec, gradient)| gradient.as_ref().map(|gradient| (&spec.name, gradient)))
            .unzip();
        let cost = |_: &_| Cost::of::<B>(tensors.iter().copied());
        match self.profile.time(Category::Optimizer, "norms", "", || backend.norms(&tensors), cost)? {
            Norms::Known(squares) => {
                let norm = total(&squares, |place| names[place])?;
                // PyTorch's formula; the small number keeps it finite at norm 0.
                let factor = largest_norm.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0));
                if factor < 1.0 {
                    for (spec, gradient) in specs.iter().zip(gradients) {
                        let Some(gradient) = gradient else { continue };
                        let cost = |&(): &()| Cost::array(&spec.inner_shape(), 2); // read and written
                        let work = || backend.scale(gradient, factor);
                        self.profile.time(Category::Optimizer, "scale", &spec.name, work, cost)?;
                    }
                }
                Ok(GradientNorm::Known(norm))
            }
            Norms::Pending(norms) => {
                let names = names.into_iter().cloned().collect();
                if let Some(largest) = largest_norm {
                    let mut tensors: Vec<&mut B::Tensor> = gradients.iter_mut().flatten().collect();
                    backend.clip(&mut tensors, &norms, largest)?;
                }
                Ok(GradientNorm::Pending { norms, names })
            }
        }
    }

    fn allocate(&mut self, backend: &B, specs: &[&ParameterSpec]) -> Result<()> {
        if self.state.is_empty() {
            let slots = slots(&self.spec).len();
            let zeros = |spec: &&ParameterSpec| {
                let count = if spec.is_trained() { slots } else { 0 };
                (0..count).map(|_| backend.zeros(&spec.inner_shape())).collect::<Result<Vec<_>>>()
            };
            self.state = specs.iter().map(zeros).collect::<Result<_>>()?;
            self.counts = vec![0; specs.len()];
        }
        Ok(())
    }

    /// The state by PyTorch's names, `conv1.weight.exp_avg` for example, in the parameters' outside layout. Empty
    /// before the first step.
    pub fn tensors(&self, backend: &B, groups: &[&Parameters<B>]) -> Result<BTreeMap<String, HostTensor>> {
        let mut tensors = BTreeMap::new();
        let specs = groups.iter().flat_map(|group| &group.specs);
        for (spec, state) in specs.clone().zip(&self.state) {
            for (slot, tensor) in slots(&self.spec).iter().zip(state) {
                tensors.insert(format!("{}.{slot}", spec.name), spec.download(backend, tensor)?);
            }
        }
        for (spec, &count) in specs.zip(&self.counts).filter(|(spec, _)| spec.is_trained()) {
            // As in PyTorch a float32, which holds whole numbers up to 2^24.
            tensors.insert(format!("{}.step", spec.name), HostTensor { shape: Vec::new(), data: vec![count as f32] });
        }
        Ok(tensors)
    }

    /// Continues after `step` steps with the state that [`tensors`](Optimizer::tensors) gave.
    pub fn restore(
        &mut self,
        backend: &B,
        groups: &[&Parameters<B>],
        step: u64,
        tensors: &BTreeMap<String, HostTensor>,
    ) -> Result<()> {
        let find = |spec: &ParameterSpec, slot: &str, shape: &[usize]| {
            let name = format!("{}.{slot}", spec.name);
            match tensors.get(&name) {
                Some(tensor) if tensor.shape == shape => Ok(tensor),
                other => Err(Error::new(Code::InvalidArtefact, format!("the optimiser's state {name} does not fit"))
                    .with_values(format!("{shape:?}"), format!("{:?}", other.map(|tensor| &tensor.shape)))
                    .with_advice("resume from a checkpoint of this very run")),
            }
        };
        self.step = step;
        (self.counts, self.state) = (Vec::new(), Vec::new());
        if step > 0 {
            let slots = slots(&self.spec);
            let all = |spec: &ParameterSpec| match spec.is_trained() {
                true => {
                    let slots = slots.iter().map(|slot| spec.upload(backend, find(spec, slot, &spec.shape)?));
                    slots.collect::<Result<Vec<_>>>()
                }
                false => Ok(Vec::new()),
            };
            let count = |spec: &ParameterSpec| match spec.is_trained() {
                true => Ok(find(spec, "step", &[])?.data[0] as u64),
                false => Ok(0),
            };
            let specs = groups.iter().flat_map(|group| &group.specs);
            self.state = specs.clone().map(all).collect::<Result<_>>()?;
            self.counts = specs.map(count).collect::<Result<_>>()?;
        }
        Ok(())
    }
}

/// A parameter and what changes it.
struct Update<'a, T> {
    spec: &'a ParameterSpec,
    parameter: &'a mut T,
    gradient: &'a T,
    state: &'a mut [T],
    rate: f64,
    /// Steps that it has taken, with this one.
    count: u64,
}

/// Changes parameters, at once where the backend does so.
fn update<B: Backend>(
    backend: &B,
    spec: &OptimizerSpec,
    profile: &Profile,
    updates: Vec<Update<'_, B::Tensor>>,
) -> Result<()> {
    let Some(Update { spec: ParameterSpec { name, .. }, .. }) = updates.first() else { return Ok(()) };
    let name = if updates.len() == 1 { name.as_str() } else { "" };
    // The gradient is read, the parameter and its state are read and written.
    let arrays = 1 + 2 * (1 + slots(spec).len());
    let numbers: usize = updates.iter().map(|one| B::shape(one.gradient).iter().product::<usize>()).sum();
    let cost = |&(): &()| Cost::array(&[numbers], arrays);
    let decoupled = matches!(spec, OptimizerSpec::AdamW { .. });
    match *spec {
        OptimizerSpec::Adam { beta1, beta2, epsilon, weight_decay, .. }
        | OptimizerSpec::AdamW { beta1, beta2, epsilon, weight_decay, .. } => {
            let adam = |Update { parameter, gradient, state, rate: learning_rate, count: step, .. }| {
                let state: &mut [B::Tensor] = state;
                let [mean, square] = state else {
                    return Err(Error::new(Code::Internal, "Adam's state has two tensors for each parameter"));
                };
                let step = AdamStep { learning_rate, beta1, beta2, epsilon, weight_decay, decoupled, step };
                Ok(AdamUpdate { step, parameter, gradient, state: [mean, square] })
            };
            let updates = updates.into_iter().map(adam).collect::<Result<_>>()?;
            profile.time(Category::Optimizer, "adam", name, || backend.adam_all(updates), cost)
        }
        OptimizerSpec::Sgd { momentum, nesterov, weight_decay, .. } => {
            let sgd = |Update { parameter, gradient, state, rate: learning_rate, .. }| {
                let state: &mut [B::Tensor] = state;
                let step = SgdStep { learning_rate, momentum, nesterov, weight_decay };
                SgdUpdate { step, parameter, gradient, velocity: state.first_mut() }
            };
            let updates = updates.into_iter().map(sgd).collect();
            profile.time(Category::Optimizer, "sgd", name, || backend.sgd_all(updates), cost)
        }
    }
}

/// Whether every trained parameter has a gradient: a loss wired to the wrong feature must not pass.
///
/// # Errors
/// `ERR_INVALID_OPTION` that names the parameters without one.
pub fn check_all_reached<T>(specs: &[ParameterSpec], gradients: &[Option<T>]) -> Result<()> {
    let without: Vec<&str> = specs
        .iter()
        .zip(gradients)
        .filter(|(spec, gradient)| spec.is_trained() && gradient.is_none())
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    if without.is_empty() {
        return Ok(());
    }
    let names = without.iter().take(8).copied().collect::<Vec<_>>().join(", ");
    Err(Error::new(Code::InvalidOption, format!("no loss reaches {} of the parameters: {names}", without.len()))
        .with_subject("losses")
        .with_values("a gradient for every trained parameter", format!("none for {names}"))
        .with_advice("add a loss that reads the feature on top of them, or leave that part of the network out"))
}

/// The norm of all tensors together, from the squares of their norms; `name` says whose.
fn total<'n>(squares: &[f64], name: impl FnOnce(usize) -> &'n String) -> Result<f64> {
    match squares.iter().position(|squares| !squares.is_finite()) {
        None => Ok(squares.iter().fold(0.0, |total, squares| total + squares).sqrt()),
        Some(place) => {
            let name = name(place);
            Err(Error::new(Code::NonFinite, format!("the gradient of {name} is not finite"))
                .with_subject(name.clone())
                .with_values("finite numbers", "NaN or infinity")
                .with_advice("lower the learning rate, clip the gradient norm, or warm up longer"))
        }
    }
}
