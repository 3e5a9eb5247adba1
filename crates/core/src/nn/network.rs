//! A network on a backend: images in, features out; feature gradients in, parameter gradients out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::backend::Backend;
use super::backward::Backward;
use super::blocks::{Blocks, Stage};
use super::dropout::Draw;
use super::forward::{BatchStatistics, Forward, PassStatistics};
use super::layer::{Definition, Layer, ParameterId};
use super::lowering::{Mode, Operation, Program};
use super::parameters::{Layout, Parameters, Taken};
use super::pattern::{choose, chooses};
use super::profile::{Category, Cost, Profile};
use super::synchronised::{BackwardTogether, Common, ForwardTogether};
use super::tape::Tape;
use super::tuning::{TrainingStatistics, TuningPlan, set_rates};
use crate::error::{Code, Error, Result};
use crate::ranks::Ranks;
use crate::tensor::{Feature, FeatureMap, HostTensor};

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
pub type Trained<B> = (FeatureMap<<B as Backend>::Tensor>, Tape<B>, PassStatistics<B>);

/// What the pieces of a batch give that go through the network side by side: features and activations of each, and what the
/// running statistics learn of all.
pub type TrainedTogether<B> = (Vec<(FeatureMap<<B as Backend>::Tensor>, Tape<B>)>, PassStatistics<B>);

/// The names of what stands above the pooled feature in torchvision, timm and here: classifiers, embedding layers, and
/// GoogLeNet's classifiers beside the trunk.
const HEADS: [&str; 5] = ["fc", "classifier", "head", "aux1", "aux2"];

/// A network with its parameters.
#[derive(Clone, Debug)]
pub struct Network<B: Backend> {
    backend: B,
    definition: Definition,
    /// The taps that passes keep; all of them if nobody said which.
    kept_taps: Option<Vec<Feature>>,
    /// How a training pass runs.
    tuning: TuningPlan,
    /// What a training pass runs.
    training: Program,
    /// What an evaluation pass runs, and its mode.
    pub(super) evaluation: (Program, Mode),
    /// How an evaluation pass is cut, where it is.
    pub(super) blocks: Option<Blocks>,
    profile: Arc<Profile>,
    /// The parameters.
    pub parameters: Parameters<B>,
}

impl<B: Backend> Network<B> {
    /// A network before training; its start belongs to `seed`.
    pub fn new(backend: B, definition: Definition, seed: u64) -> Result<Self> {
        let parameters = Parameters::draw(&backend, definition.parameters.clone(), seed)?;
        Ok(Self::assemble(backend, definition, parameters))
    }

    /// A network whose parameters are zeros: what counts memory needs no start.
    pub fn zeros(backend: B, definition: Definition) -> Result<Self> {
        let parameters = Parameters::zeros(&backend, definition.parameters.clone())?;
        Ok(Self::assemble(backend, definition, parameters))
    }

    /// A network with given parameters, by torchvision's names and in its layouts. Every name must be there with its
    /// shape, and no other.
    pub fn from_tensors(backend: B, definition: Definition, tensors: &BTreeMap<String, HostTensor>) -> Result<Self> {
        let parameters = Parameters::from_tensors(&backend, definition.parameters.clone(), tensors)?;
        Ok(Self::assemble(backend, definition, parameters))
    }

    fn assemble(backend: B, definition: Definition, parameters: Parameters<B>) -> Self {
        let training = Program::new(&definition, Mode::Batch, None);
        let evaluation = (Program::new(&definition, Mode::Running, None), Mode::Running);
        let (tuning, kept_taps, blocks, profile) = (TuningPlan::default(), None, None, Arc::default());
        Network { backend, definition, kept_taps, tuning, training, evaluation, blocks, profile, parameters }
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
    /// What is not taken is in the report.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` that lists what does not fit; `ERR_INVALID_OPTION` for a pattern that chooses no name of
    /// the network or of the weights.
    pub fn take(&mut self, tensors: &BTreeMap<String, HostTensor>, except: &[String]) -> Result<Taken> {
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

    /// Says which parameters learn, how fast, what batch normalisation uses in training, and what training leaves out.
    ///
    /// # Errors
    /// Those of [`set_rates`] and [`Program::training`].
    pub fn tune(&mut self, tuning: &TuningPlan) -> Result<()> {
        self.training = Program::training(&self.definition, tuning, self.kept_taps.as_deref())?;
        self.tuning = tuning.clone();
        set_rates(&mut self.parameters.specs, tuning)
    }

    /// The backend.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// From now on passes note the time of their operations in `profile`, while that is recording.
    pub fn set_profile(&mut self, profile: &Arc<Profile>) {
        self.profile = Arc::clone(profile);
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
        self.kept_taps = Some(features.to_vec());
        match Program::training(&self.definition, &self.tuning, Some(features)) {
            Ok(training) => self.training = training,
            Err(_) => unreachable!("tune has checked the plan"),
        }
        self.evaluation = self.lowered(self.evaluation.1);
        // Without taps the operations have other places. What was cut before can be cut again.
        self.blocks = self.blocks.take().and_then(|_| self.cut().ok());
    }

    /// How an evaluation pass can be cut.
    pub(super) fn cut(&self) -> Result<Blocks> {
        let Definition { image_size: side, in_channels, .. } = self.definition;
        Blocks::new(&self.evaluation.0.body, &self.parameters.specs, [side, side, in_channels])
    }

    /// The operations of a mode.
    pub(super) fn lowered(&self, mode: Mode) -> (Program, Mode) {
        (Program::new(&self.definition, mode, self.kept_taps.as_deref()), mode)
    }

    /// A training pass over `images [n, h, w, c]`: statistics of the batch, running statistics updated; or, where
    /// [`tune`](Network::tune) said so, running statistics that stay. What is left out at random is that of the first
    /// step.
    pub fn forward_train(&mut self, images: &B::Tensor) -> Result<(FeatureMap<B::Tensor>, Tape<B>)> {
        self.forward_train_at(images, Draw::default())
    }

    /// [`forward_train`](Network::forward_train) somewhere in a run.
    pub fn forward_train_at(&mut self, images: &B::Tensor, draw: Draw) -> Result<(FeatureMap<B::Tensor>, Tape<B>)> {
        let (features, tape, statistics) = self.forward_taped(images, draw)?;
        self.learn(&statistics)?;
        Ok((features, tape))
    }

    /// A training pass that keeps nothing for the way back, and what the running statistics are to [learn](Network::learn).
    pub fn forward_untaped(
        &self,
        images: &B::Tensor,
        draw: Draw,
    ) -> Result<(FeatureMap<B::Tensor>, PassStatistics<B>)> {
        let (features, _, statistics) = self.train(images, draw, false)?;
        Ok((features, statistics))
    }

    /// A training pass, and what the running statistics are to [learn](Network::learn).
    pub fn forward_taped(&self, images: &B::Tensor, draw: Draw) -> Result<Trained<B>> {
        self.train(images, draw, true)
    }

    /// The running statistics learn from one pass.
    pub fn learn(&mut self, statistics: &[BatchStatistics<B::Tensor>]) -> Result<()> {
        statistics.iter().try_for_each(|batch| self.learn_statistics(batch))
    }

    /// Whether the pieces of a batch have batch normalisation's statistics in common, so that they have to go through the
    /// network side by side: [`forward_together`](Network::forward_together).
    pub fn is_synchronised(&self) -> bool {
        let normalises = self.parameters.specs.iter().any(|spec| spec.layout == Layout::Statistic);
        self.tuning.batch_norm == TrainingStatistics::Sync && normalises
    }

    /// A training pass over `pieces` of a batch, those of this one of `ranks`: the features and activations of each, and what
    /// the running statistics are to [learn](Network::learn) of the whole batch, the same on all ranks. All ranks must call it.
    ///
    /// # Errors
    /// Those of the operations and of [`Ranks::gather`].
    pub fn forward_together(&self, pieces: &[(B::Tensor, Draw)], ranks: &Ranks) -> Result<TrainedTogether<B>> {
        let pass = |&(ref images, draw): &(B::Tensor, Draw)| {
            self.check_images(B::shape(images))?;
            let mut forward = self.pass(true);
            forward.draw = draw;
            Ok(forward)
        };
        let passes = pieces.iter().map(pass).collect::<Result<_>>()?;
        let mut together = ForwardTogether::new(self.common(ranks), passes);
        let images = pieces.iter().map(|(images, _)| images.clone()).collect();
        let pooled = together.run(&self.training.body, images)?;
        // Above the pooled feature nothing is normalised by a batch.
        let above = |(mut forward, pooled): (Forward<'_, B>, B::Tensor)| {
            let features = self.above(&mut forward, &self.training, pooled)?;
            Ok((features, forward.tape.take().unwrap_or_default()))
        };
        let found = together.passes.into_iter().zip(pooled).map(above).collect::<Result<_>>()?;
        Ok((found, together.statistics))
    }

    fn common<'a>(&'a self, ranks: &'a Ranks) -> Common<'a, B> {
        Common { backend: &self.backend, parameters: &self.parameters, profile: &self.profile, ranks }
    }

    fn train(&self, images: &B::Tensor, draw: Draw, taped: bool) -> Result<Trained<B>> {
        if self.is_synchronised() {
            let (mut found, statistics) = self.forward_together(&[(images.clone(), draw)], &Ranks::one())?;
            let (features, tape) = found.pop().unwrap_or_default();
            return Ok((features, tape, statistics));
        }
        let mut forward = self.pass(taped);
        forward.draw = draw;
        let features = self.features(&mut forward, &self.training, images)?;
        Ok((features, forward.tape.take().unwrap_or_default(), forward.statistics))
    }

    /// An evaluation pass over `images [n, h, w, c]`: running statistics, nothing kept. For many images, and parameters
    /// that stay, [`into_inference`](Network::into_inference) is faster.
    pub fn forward_eval(&self, images: &B::Tensor) -> Result<FeatureMap<B::Tensor>> {
        self.features(&mut self.pass(false), &self.evaluation.0, images)
    }

    /// The gradients of the parameters, given those of features; of the images too if `images`.
    pub fn backward(&self, tape: Tape<B>, gradients: FeatureMap<B::Tensor>, images: bool) -> Result<Gradients<B>> {
        if self.is_synchronised() {
            let mut found = self.backward_together(vec![(tape, gradients)], &Ranks::one(), images)?;
            return found.pop().ok_or_else(|| Error::new(Code::Internal, "one piece has one gradient"));
        }
        let (mut backward, pooled) = self.backward_above(tape, gradients)?;
        let images = backward.run(&self.training.body, pooled, images)?;
        Ok(Gradients { parameters: backward.gradients, images })
    }

    /// The gradients of each piece of [`forward_together`](Network::forward_together), given its activations and the gradients
    /// of its features: the same features of all pieces, on all ranks, which all must call it.
    ///
    /// # Errors
    /// Those of the operations and of [`Ranks::gather`].
    pub fn backward_together(
        &self,
        pieces: Vec<(Tape<B>, FeatureMap<B::Tensor>)>,
        ranks: &Ranks,
        images: bool,
    ) -> Result<Vec<Gradients<B>>> {
        let above = |(tape, gradients)| self.backward_above(tape, gradients);
        let above = pieces.into_iter().map(above).collect::<Result<Vec<_>>>()?;
        let (passes, pooled) = above.into_iter().unzip();
        let mut together = BackwardTogether::new(self.common(ranks), passes);
        let images = together.run(&self.training.body, pooled, images)?;
        let passes = together.passes.into_iter().zip(images);
        Ok(passes.map(|(pass, images)| Gradients { parameters: pass.gradients, images }).collect())
    }

    /// The way back to the pooled feature, and its gradient.
    fn backward_above(
        &self,
        tape: Tape<B>,
        mut gradients: FeatureMap<B::Tensor>,
    ) -> Result<(Backward<'_, B>, Option<B::Tensor>)> {
        let program = &self.training;
        let [embedding, logits, pooled] =
            [Feature::Embedding, Feature::Logits, Feature::Pooled].map(|feature| gradients.remove(&feature));
        let mut backward = Backward::new(&self.backend, &self.parameters, &self.profile, tape, gradients);
        let output = backward.run(&program.output, embedding, true)?;
        let logits = backward.run(&program.classifier, logits, true)?;
        let raw = backward.sum(output, logits)?;
        let above = backward.run(&program.embedding, raw, true)?;
        let pooled = backward.sum(above, pooled)?;
        Ok((backward, pooled))
    }

    fn features(
        &self,
        forward: &mut Forward<'_, B>,
        program: &Program,
        images: &B::Tensor,
    ) -> Result<FeatureMap<B::Tensor>> {
        self.check_images(B::shape(images))?;
        let pooled = self.pooled(forward, &program.body, images)?;
        self.above(forward, program, pooled)
    }

    /// The features of a pass that has come to the pooled one.
    fn above(
        &self,
        forward: &mut Forward<'_, B>,
        program: &Program,
        pooled: B::Tensor,
    ) -> Result<FeatureMap<B::Tensor>> {
        let raw = forward.run(&program.embedding, pooled.clone())?;
        let mut features = std::mem::take(&mut forward.taps);
        if !program.classifier.is_empty() {
            features.insert(Feature::Logits, forward.run(&program.classifier, raw.clone())?);
        }
        features.extend([(Feature::Pooled, pooled), (Feature::Embedding, forward.run(&program.output, raw)?)]);
        Ok(features)
    }

    /// Runs `operations`, in stages where a pass is cut.
    fn pooled(&self, forward: &mut Forward<'_, B>, operations: &[Operation], images: &B::Tensor) -> Result<B::Tensor> {
        let n = B::shape(images)[0];
        let stages = self.blocks.as_ref().zip(self.backend.cached_values());
        let stages = stages.map_or_else(Vec::new, |(blocks, cached)| blocks.stages(n, cached));
        let (mut x, mut done) = (images.clone(), 0);
        for Stage { operations: [first, end], images } in stages {
            x = self.in_blocks(forward, &operations[first..end], x, images)?;
            done = end;
        }
        forward.run(&operations[done..], x)
    }

    /// Runs `operations` for one block of so many `images` after the other.
    fn in_blocks(
        &self,
        forward: &mut Forward<'_, B>,
        operations: &[Operation],
        x: B::Tensor,
        images: usize,
    ) -> Result<B::Tensor> {
        let (n, before) = (B::shape(&x)[0], std::mem::take(&mut forward.taps));
        let (mut parts, mut taps) = (Vec::new(), BTreeMap::<Feature, Vec<B::Tensor>>::new());
        for first in (0..n).step_by(images) {
            let block = self.backend.images(&x, [first, n.min(first + images)])?;
            parts.push(forward.run(operations, block)?);
            for (feature, tensor) in std::mem::take(&mut forward.taps) {
                taps.entry(feature).or_default().push(tensor);
            }
        }
        drop(x);
        forward.taps = before;
        for (feature, tensors) in taps {
            forward.taps.insert(feature, self.backend.stack(&tensors)?);
        }
        self.backend.stack(&parts)
    }

    /// A forward pass that keeps the taps that are wanted.
    fn pass(&self, taped: bool) -> Forward<'_, B> {
        let mut forward = Forward::new(&self.backend, &self.parameters, &self.profile, taped);
        forward.kept = self.kept_taps.as_deref();
        forward
    }

    fn check_images(&self, shape: &[usize]) -> Result<()> {
        let (side, channels) = (self.definition.image_size, self.definition.in_channels);
        if matches!(shape, &[n, h, w, c] if n > 0 && h == side && w == side && c == channels) {
            return Ok(());
        }
        Err(Error::new(Code::InvalidShape, "the images do not fit the network")
            .with_values(format!("[n, {side}, {side}, {channels}] with n at least 1"), format!("{shape:?}"))
            .with_advice("resize the images, or build the network for their size"))
    }

    /// PyTorch's update: the layer's share of the batch (usually 10 %), its variance without bias.
    fn learn_statistics(&mut self, batch: &BatchStatistics<B::Tensor>) -> Result<()> {
        let (backend, Parameters { specs, values }) = (&self.backend, &mut self.parameters);
        let unbiased = batch.count as f64 / (batch.count as f64 - 1.0);
        let layer = &batch.layer;
        for (id, source, factor) in
            [(layer.running_mean(), &batch.mean, 1.0), (layer.running_variance(), &batch.variance, unbiased)]
        {
            self.profile.time(
                Category::BatchNorm,
                "blend",
                &specs[id].name,
                || backend.blend(&mut values[id], source, layer.momentum, factor),
                // The statistic is read and written.
                |()| Cost::of::<B>([source; 3]),
            )?;
        }
        backend.increment(&mut values[layer.batches()])
    }
}
