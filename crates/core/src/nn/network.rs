//! A network on a backend: images in, features out; feature gradients in, parameter gradients out.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde_json::Value;

use super::backend::Backend;
use super::backward::Backward;
use super::forward::{BatchStatistics, Forward, Mode};
use super::layer::{Definition, Layer, Normalization, ParameterId};
use super::parameters::{Parameters, Taken};
use super::pattern::{choose, chooses};
use super::tape::Tape;
use super::tuning::set_rates;
use crate::artefact::model::Model;
use crate::backbones;
use crate::backbones::BackboneSpec;
use crate::error::{Code, Error, Result};
use crate::nn::tuning::{TrainingStatistics, TuningPlan};
use crate::tensor::Feature;
use crate::tensor::HostTensor;

/// What a network says about a batch of n images.
#[derive(Clone, Debug)]
pub struct Features<T> {
    /// Named activations inside the body, `[n, h, w, c]`.
    pub taps: Vec<(String, T)>,
    /// The feature after pooling, `[n, p]`.
    pub pooled: T,
    /// The embedding, `[n, d]`.
    pub embedding: T,
    /// The logits `[n, classes]`, where the network has a classifier.
    pub logits: Option<T>,
}

impl<T> Features<T> {
    /// Every feature there is, with its name.
    pub fn all(&self) -> Vec<(Feature, &T)> {
        let taps = self.taps.iter().map(|(name, tap)| (Feature::Tap(name.clone()), tap));
        let logits = self.logits.as_ref().map(|logits| (Feature::Logits, logits));
        let ends = [(Feature::Embedding, &self.embedding), (Feature::Pooled, &self.pooled)];
        ends.into_iter().chain(logits).chain(taps).collect()
    }

    /// The feature that losses call `feature`; `None` if the network has none of this name.
    pub fn get(&self, feature: &Feature) -> Option<&T> {
        match feature {
            Feature::Embedding => Some(&self.embedding),
            Feature::Pooled => Some(&self.pooled),
            Feature::Logits => self.logits.as_ref(),
            Feature::Tap(name) => self.taps.iter().find(|(tap, _)| tap == name).map(|(_, value)| value),
        }
    }
}

/// The gradients of features; any of them may be absent.
#[derive(Clone, Debug)]
pub struct FeatureGradients<T> {
    /// Of taps, by name.
    pub taps: Vec<(String, T)>,
    /// `[n, p]`.
    pub pooled: Option<T>,
    /// `[n, d]`.
    pub embedding: Option<T>,
    /// `[n, classes]`.
    pub logits: Option<T>,
}

impl<T> Default for FeatureGradients<T> {
    fn default() -> Self {
        FeatureGradients { taps: Vec::new(), pooled: None, embedding: None, logits: None }
    }
}

/// The gradients of parameters, in the order of [`Definition::parameters`] and inside layout; `None` where no loss
/// reaches a parameter, and for running statistics.
#[derive(Clone, Debug)]
pub struct Gradients<B: Backend> {
    /// One entry for each parameter.
    pub parameters: Vec<Option<B::Tensor>>,
    /// Of the images, if asked for.
    pub images: Option<B::Tensor>,
}

/// What a training pass gives: features, activations, and what the running statistics learn.
type Trained<B> = (Features<<B as Backend>::Tensor>, Tape<B>, Vec<BatchStatistics<<B as Backend>::Tensor>>);

/// The names of what stands above the pooled feature in torchvision, timm and here: classifiers, embedding layers, and
/// GoogLeNet's classifiers beside the trunk.
const HEADS: [&str; 5] = ["fc", "classifier", "head", "aux1", "aux2"];

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Network<B: Backend> {
    backend: B,
    spec: BackboneSpec,
    definition: Definition,
    /// The taps that passes keep; all of them if nobody said which.
    kept_taps: Option<Vec<String>>,
    /// Which statistics batch normalisation uses in training.
    training: Mode,
    /// The parameters.
    pub parameters: Parameters<B>,
}

impl<B: Backend> Network<B> {
    /// A network before training; its start belongs to `seed`. The errors are those of [`backbones::define`].
    pub fn new(backend: B, spec: &BackboneSpec, seed: u64) -> Result<Self> {
        let definition = backbones::define(spec)?;
        let parameters = Parameters::draw(&backend, definition.parameters.clone(), seed)?;
        Ok(Network { backend, spec: spec.clone(), definition, kept_taps: None, training: Mode::Batch, parameters })
    }

    /// A network with given parameters, by torchvision's names and in its layouts. Every name must be there with its
    /// shape, and no other.
    pub fn from_tensors(backend: B, spec: &BackboneSpec, tensors: &BTreeMap<String, HostTensor>) -> Result<Self> {
        let definition = backbones::define(spec)?;
        let parameters = Parameters::from_tensors(&backend, definition.parameters.clone(), tensors)?;
        Ok(Network { backend, spec: spec.clone(), definition, kept_taps: None, training: Mode::Batch, parameters })
    }

    /// Reads a `model.safetensors`; also gives the JSON that its writer put beside the network.
    pub fn load(backend: B, path: &Path) -> Result<(Self, Value)> {
        let model = Model::load(path)?;
        let network = Self::from_tensors(backend, &model.backbone, &model.tensors)
            .map_err(|error| error.with_subject(path.display().to_string()))?;
        Ok((network, model.about))
    }

    /// The parameters with the network's description, to be saved; `about` is kept beside them.
    pub fn to_model(&self, about: Value) -> Result<Model> {
        Ok(Model { backbone: self.spec.clone(), about, tensors: self.tensors()? })
    }

    /// The parameters and running statistics, by torchvision's names and in its layouts.
    pub fn tensors(&self) -> Result<BTreeMap<String, HostTensor>> {
        self.parameters.to_tensors(&self.backend)
    }

    /// Replaces all parameters and running statistics.
    pub fn set_tensors(&mut self, tensors: &BTreeMap<String, HostTensor>) -> Result<()> {
        self.parameters = Parameters::from_tensors(&self.backend, self.parameters.specs.clone(), tensors)?;
        Ok(())
    }

    /// Takes weights of another program or another network. All must fit but the head, the layers above the pooled
    /// feature, which may be missing, unexpected or of another shape, as may names that a pattern of `except` chooses.
    /// What is not taken is in the report. A VGG's head for maps of 7x7 places, torchvision's, is folded to the maps of
    /// this network: [`backbones::adapt`].
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` that lists what does not fit; `ERR_INVALID_OPTION` for a pattern that chooses no name of the
    /// network or of the weights.
    pub fn take(&mut self, tensors: &BTreeMap<String, HostTensor>, except: &[String]) -> Result<Taken> {
        let tensors = &*backbones::adapt(&self.spec, tensors);
        let specs = &self.parameters.specs;
        let of_head = |id: ParameterId| {
            let mut layers = self.definition.embedding.iter().chain(&self.definition.classifier);
            layers.any(|layer| matches!(layer, Layer::Linear(l) if id == l.weight || id == l.weight + 1))
        };
        let ids = 0..specs.len();
        let body: HashSet<String> = ids.filter(|&id| !of_head(id)).map(|id| specs[id].name.clone()).collect();
        let names: Vec<&str> =
            specs.iter().map(|spec| spec.name.as_str()).chain(tensors.keys().map(String::as_str)).collect();
        choose("weights.except", except, &names)?;
        let excused = |name: &str| {
            let head = !body.contains(name) && HEADS.iter().any(|head| chooses(head, name));
            head || except.iter().any(|pattern| chooses(pattern, name))
        };
        let taken = self.parameters.take(&self.backend, tensors, &excused)?;
        match taken.count {
            0 => Err(Error::new(Code::InvalidArtefact, "nothing of the weights fits the network")
                .with_values("tensors of this network", taken.ignored.first().cloned().unwrap_or_default())
                .with_advice("choose the weights of this architecture, or leave weights out")),
            _ => Ok(taken),
        }
    }

    /// Says which parameters learn, how fast, and what batch normalisation uses in training.
    ///
    /// # Errors
    /// Those of [`set_rates`].
    pub fn tune(&mut self, tuning: &TuningPlan) -> Result<()> {
        self.training = match tuning.batch_norm {
            TrainingStatistics::Batch => Mode::Batch,
            TrainingStatistics::Running => Mode::Running,
        };
        set_rates(&mut self.parameters.specs, tuning)
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// What was asked for.
    pub fn spec(&self) -> &BackboneSpec {
        &self.spec
    }

    /// The layers.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Number of trained values.
    pub fn parameter_count(&self) -> usize {
        self.parameters.count()
    }

    /// Length of the embedding.
    pub fn embedding_size(&self) -> usize {
        self.definition.embedding_size
    }

    /// From now on passes keep only those taps that are among `features`: an activation that nobody reads is freed as
    /// soon as the network has used it.
    pub fn keep_taps(&mut self, features: &[Feature]) {
        let taps = features.iter().filter(|feature| matches!(feature, Feature::Tap(_)));
        self.kept_taps = Some(taps.map(|feature| feature.name().to_string()).collect());
    }

    /// A training pass over `images [n, h, w, c]`: statistics of the batch, running statistics updated; or, where
    /// [`tune`](Network::tune) said so, running statistics that stay.
    pub fn forward_train(&mut self, images: &B::Tensor) -> Result<(Features<B::Tensor>, Tape<B>)> {
        let (features, tape, statistics) = self.train(images, true)?;
        statistics.iter().try_for_each(|batch| self.learn_statistics(batch))?;
        Ok((features, tape))
    }

    /// A training pass that keeps nothing for the way back. With [`forward_taped`](Network::forward_taped) it makes two
    /// halves of [`forward_train`](Network::forward_train), for batches whose activations do not fit into memory.
    pub fn forward_untaped(&mut self, images: &B::Tensor) -> Result<Features<B::Tensor>> {
        let (features, _, statistics) = self.train(images, false)?;
        statistics.iter().try_for_each(|batch| self.learn_statistics(batch))?;
        Ok(features)
    }

    /// A training pass of which the running statistics learn nothing.
    pub fn forward_taped(&self, images: &B::Tensor) -> Result<(Features<B::Tensor>, Tape<B>)> {
        let (features, tape, _) = self.train(images, true)?;
        Ok((features, tape))
    }

    fn train(&self, images: &B::Tensor, taped: bool) -> Result<Trained<B>> {
        let mut forward = self.pass(self.training, taped);
        let features = self.features(&mut forward, images)?;
        Ok((features, forward.tape.take().unwrap_or_default(), forward.statistics))
    }

    /// An evaluation pass over `images [n, h, w, c]`: running statistics, nothing kept. For many images, and parameters
    /// that stay, [`into_inference`](Network::into_inference) is faster.
    pub fn forward_eval(&self, images: &B::Tensor) -> Result<Features<B::Tensor>> {
        self.features(&mut self.pass(Mode::Running, false), images)
    }

    /// The gradients of the parameters, given those of features; of the images too if `images`.
    pub fn backward(
        &self,
        tape: Tape<B>,
        gradients: FeatureGradients<B::Tensor>,
        images: bool,
    ) -> Result<Gradients<B>> {
        let layers = &self.definition;
        let mut backward = Backward::new(&self.backend, &self.parameters, tape, gradients.taps);
        let output = backward.run(&layers.output, gradients.embedding, true)?;
        let logits = backward.run(&layers.classifier, gradients.logits, true)?;
        let raw = backward.sum(output, logits)?;
        let pooled = backward.run(&layers.embedding, raw, true)?;
        let pooled = backward.sum(pooled, gradients.pooled)?;
        let images = backward.run(&layers.body, pooled, images)?;
        Ok(Gradients { parameters: backward.gradients, images })
    }

    fn features(&self, forward: &mut Forward<'_, B>, images: &B::Tensor) -> Result<Features<B::Tensor>> {
        self.check_images(B::shape(images))?;
        let pooled = forward.run(&self.definition.body, images.clone())?;
        self.ends(forward, pooled)
    }

    /// A forward pass that keeps the taps that are wanted.
    pub(super) fn pass(&self, mode: Mode, taped: bool) -> Forward<'_, B> {
        let mut forward = Forward::new(&self.backend, &self.parameters, mode, taped);
        forward.kept = self.kept_taps.as_deref();
        forward
    }

    /// The features, from the pooled one on.
    pub(super) fn ends(&self, forward: &mut Forward<'_, B>, pooled: B::Tensor) -> Result<Features<B::Tensor>> {
        let layers = &self.definition;
        let raw = forward.run(&layers.embedding, pooled.clone())?;
        let logits = match layers.classifier.is_empty() {
            true => None,
            false => Some(forward.run(&layers.classifier, raw.clone())?),
        };
        let embedding = forward.run(&layers.output, raw)?;
        Ok(Features { taps: std::mem::take(&mut forward.taps), pooled, embedding, logits })
    }

    pub(super) fn check_images(&self, shape: &[usize]) -> Result<()> {
        let (side, channels) = (self.spec.image_size, self.spec.in_channels);
        if matches!(shape, &[n, h, w, c] if n > 0 && h == side && w == side && c == channels) {
            return Ok(());
        }
        Err(Error::new(Code::InvalidShape, "the images do not fit the network")
            .with_values(format!("[n, {side}, {side}, {channels}] with n at least 1"), format!("{shape:?}"))
            .with_advice("resize the images, or build the network for their size"))
    }

    /// PyTorch's update: 10 % of the batch, its variance without bias.
    fn learn_statistics(&mut self, batch: &BatchStatistics<B::Tensor>) -> Result<()> {
        let (backend, values) = (&self.backend, &mut self.parameters.values);
        backend.at(&self.parameters.specs[batch.layer.weight].name);
        let unbiased = batch.count as f64 / (batch.count as f64 - 1.0);
        backend.blend(&mut values[batch.layer.running_mean()], &batch.mean, Normalization::MOMENTUM, 1.0)?;
        backend.blend(
            &mut values[batch.layer.running_variance()],
            &batch.variance,
            Normalization::MOMENTUM,
            unbiased,
        )?;
        let count = &mut values[batch.layer.batches()];
        *count = backend.from_f32(&[backend.to_f32(count)?[0] + 1.0], &[])?;
        Ok(())
    }
}
