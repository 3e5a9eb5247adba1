//! Lowering: from the layers of a [`Definition`] to the operations of a pass.
//!
//! A definition is a table, layer by layer. What a device does in one go (a normalisation with the shortcut, the activation
//! and the max pool behind it, or with the depthwise convolution; a convolution that has taken in the normalisation behind
//! it) is decided here and nowhere else, once for each [`Mode`] of a network. [`super::forward`] and [`super::backward`]
//! run the operations one by one.

use super::backend::Activation;
use super::dropout::check_share;
use super::geometry::Pool2d;
use super::layer::{BatchNorm2d, Convolution, Definition, Layer, LayerNorm, Linear, ParameterId, Residual, Tokens};
use super::tuning::{TrainingStatistics, TuningPlan};
use crate::error::{Code, Error, Result};
use crate::tensor::Feature;

/// What batch normalisation subtracts and divides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The statistics of the batch; the pass reports them for the running statistics.
    Batch,
    /// The statistics of all pieces of the batch: see [`super::synchronised`].
    Synchronised,
    /// The running statistics.
    Running,
    /// The running statistics, folded into the convolution before it where there is one: for a network that does not
    /// learn, see [`super::inference`].
    Folded,
}

/// One operation of a pass, or several that belong together.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Convolution.
    Convolution(Convolution),
    /// A convolution with what followed it. There is no way back through it.
    FusedConvolution(FusedConvolution),
    /// Batch normalisation, with its activation.
    BatchNorm2d(BatchNormOperation),
    /// Batch normalisation by the batch's statistics with its plain ReLU and a max pool.
    BatchNormMaxPool(BatchNorm2d, Pool2d),
    /// Batch normalisation with its activation and the depthwise convolution without bias behind it.
    BatchNormDepthwise(BatchNormOperation, Convolution),
    /// Linear layer, with what comes before it.
    Linear(LinearOperation),
    /// A linear layer with the activation that followed it. There is no way back through it.
    FusedLinear(Linear, Activation),
    /// Two ways from the same input, whose outputs are added.
    Residual(ResidualBlock),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Self-attention of so many heads.
    Attention {
        /// The heads.
        heads: usize,
    },
    /// A map as tokens.
    Tokens(Tokens),
    /// The class token.
    ClassToken,
    /// The input added to what operations make of it.
    Sum(SumBlock),
    /// The input times what the operations make of its mean over pixels.
    SqueezeExcitation(Vec<Operation>),
    /// Several ways from the same input, whose outputs lie side by side along the channels.
    Branches(Vec<Vec<Operation>>),
    /// An activation.
    Activation(Activation),
    /// Max pool.
    MaxPool(Pool2d),
    /// Mean over pixels.
    GlobalAverage,
    /// `[n, h, w, c]` to `[n, c * h * w]`.
    Flatten,
    /// What is left out at random, in training.
    Dropout(Dropout),
    /// Rows divided by their Euclidean norm.
    L2Normalize,
    /// The activation here is a feature of this name.
    Tap(Feature),
}

/// A batch normalisation and its statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNormOperation {
    /// The layer.
    pub layer: BatchNorm2d,
    /// Whose the statistics are.
    pub statistics: TrainingStatistics,
}

/// `activation?(convolution(x) + residual)`, where weight and bias of the convolution have taken in a normalisation.
#[derive(Clone, Debug, PartialEq)]
pub struct FusedConvolution {
    /// The convolution.
    pub convolution: Convolution,
    /// The normalisation folded into it; its shift is the bias of both.
    pub folded: Option<BatchNorm2d>,
    /// The activation that follows.
    pub activation: Option<Activation>,
}

impl FusedConvolution {
    /// The bias after folding.
    pub fn bias(&self) -> Option<ParameterId> {
        self.folded.as_ref().map(BatchNorm2d::bias).or(self.convolution.bias)
    }
}

/// `last(body(x), shortcut(x))`: the operation that ends the way through the block adds the way around it.
#[derive(Clone, Debug, PartialEq)]
pub struct ResidualBlock {
    /// The way through the block up to the last operation.
    pub body: Vec<Operation>,
    /// The way around; empty is the identity.
    pub shortcut: Vec<Operation>,
    /// The operation that adds both.
    pub last: Last,
}

/// What is left out at random: see [`super::dropout`].
#[derive(Clone, Debug, PartialEq)]
pub struct Dropout {
    /// What the draws are about.
    pub of: Dropped,
    /// The share of them, in `(0, 1)`.
    pub share: f64,
    /// The name of the layer that reads the numbers or makes the path's, which keys the draw.
    pub layer: String,
}

/// What a draw leaves out or keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// A number of a vector: dropout.
    Numbers,
    /// All numbers of an image, at the end of the way through a block: stochastic depth.
    Paths,
}

/// A linear layer behind what its input is quickly made of again: in training that is kept in place of the input.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinearOperation {
    /// What comes before it.
    pub before: Option<Before>,
    /// The layer.
    pub layer: Linear,
}

/// What the input of a linear layer is made of again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Before {
    /// By a layer normalisation.
    LayerNorm(LayerNorm),
    /// By an activation that is no ReLU.
    Activation(Activation),
}

/// `x + last(body(x))`: the linear layer that ends the way through adds the way around it.
#[derive(Clone, Debug, PartialEq)]
pub struct SumBlock {
    /// The way through, up to the last layer.
    pub body: Vec<Operation>,
    /// The last layer, where it is a linear one.
    pub last: Option<LinearOperation>,
}

/// The last operation of a residual block.
#[derive(Clone, Debug, PartialEq)]
pub enum Last {
    /// A normalisation.
    BatchNorm2d(BatchNormOperation),
    /// A convolution that has taken in the normalisation.
    FusedConvolution(FusedConvolution),
    /// Nothing but the sum, with its activation: the way through ends with what is left out at random.
    Add(Option<Activation>),
}

/// The operations of a [`Definition`], list by list.
#[derive(Clone, Debug, PartialEq)]
pub struct Program {
    /// Images to the pooled feature.
    pub body: Vec<Operation>,
    /// The pooled feature to the embedding.
    pub embedding: Vec<Operation>,
    /// The embedding to the logits; empty: no logits.
    pub classifier: Vec<Operation>,
    /// What follows the embedding.
    pub output: Vec<Operation>,
}

impl Program {
    /// The operations of `definition` in a mode, with those taps that are `kept`; with all of them if it does not say which.
    pub fn new(definition: &Definition, mode: Mode, kept: Option<&[Feature]>) -> Program {
        let [mut body, embedding, classifier, output] =
            [&definition.body, &definition.embedding, &definition.classifier, &definition.output]
                .map(|layers| lower(layers, mode));
        if let Some(kept) = kept {
            body.retain(|operation| !matches!(operation, Operation::Tap(feature) if !kept.contains(feature)));
        }
        take_class_token_early(&mut body);
        Program { body, embedding, classifier, output }
    }

    /// The operations of a training pass: statistics, dropout and stochastic depth are those of `tuning`.
    ///
    /// # Errors
    /// `ERR_INVALID_OPTION` for a share that is not in `[0, 1)`, dropout without a linear layer that reads the pooled
    /// feature, and stochastic depth without residual blocks.
    pub fn training(definition: &Definition, tuning: &TuningPlan, kept: Option<&[Feature]>) -> Result<Program> {
        let mode = match tuning.batch_norm {
            TrainingStatistics::Batch => Mode::Batch,
            TrainingStatistics::Sync => Mode::Synchronised,
            TrainingStatistics::Running => Mode::Running,
        };
        let mut program = Program::new(definition, mode, kept);
        check_share("dropout", tuning.dropout)?;
        check_share("dropPath", tuning.drop_path)?;
        if tuning.dropout > 0.0 {
            program.drop_numbers(definition, tuning.dropout)?;
        }
        if tuning.drop_path > 0.0 {
            program.drop_paths(definition, tuning.drop_path)?;
        }
        Ok(program)
    }

    /// Dropout before the layer that reads the pooled feature: the embedding's, or without one the classifier.
    fn drop_numbers(&mut self, definition: &Definition, share: f64) -> Result<()> {
        let above = if self.embedding.is_empty() { &mut self.classifier } else { &mut self.embedding };
        let Some(Operation::Linear(linear)) = above.first() else {
            return Err(Error::new(Code::InvalidOption, "there is no layer for dropout to stand before")
                .with_subject("dropout")
                .with_values(
                    "an embedding layer, or a loss on classes",
                    "an embedding that is the pooled feature itself",
                )
                .with_advice("give the embedding a length, embedding: 128 for example, or leave dropout out"));
        };
        let layer = definition.parameters[linear.layer.weight].name.clone();
        above.insert(0, Operation::Dropout(Dropout { of: Dropped::Numbers, share, layer }));
        Ok(())
    }

    /// Stochastic depth: the first residual block always runs, the last is left out for this share of images, and the share
    /// of those between rises evenly. A block of sums is an attention and what is added behind it, each with its own draws.
    fn drop_paths(&mut self, definition: &Definition, share: f64) -> Result<()> {
        let mut blocks: Vec<Vec<&mut Operation>> = Vec::new();
        for operation in &mut self.body {
            let begins = match operation {
                Operation::Residual(_) => true,
                Operation::Sum(block) => block.body.iter().any(|inner| matches!(inner, Operation::Attention { .. })),
                _ => continue,
            };
            match blocks.last_mut() {
                Some(block) if !begins => block.push(operation),
                _ => blocks.push(vec![operation]),
            }
        }
        let last = match blocks.len() {
            0 => {
                return Err(Error::new(Code::InvalidOption, "there is nothing for stochastic depth to leave out")
                    .with_subject("dropPath")
                    .with_values("residual blocks: a ResNet, MobileNet, EfficientNet or ViT", "a network without any")
                    .with_advice("choose such a network, or leave dropPath out"));
            }
            count => (count - 1).max(1),
        };
        // The only block of a network is its last.
        let only = usize::from(blocks.len() == 1);
        for (place, block) in blocks.into_iter().enumerate() {
            let share = share * (place + only) as f64 / last as f64;
            if share > 0.0 {
                block.into_iter().for_each(|operation| drop_path(operation, definition, share));
            }
        }
        Ok(())
    }

    /// Every fused convolution, those within blocks and branches too.
    pub fn fused_convolutions(&self) -> Vec<&FusedConvolution> {
        let lists = [&self.body, &self.embedding, &self.classifier, &self.output];
        lists.into_iter().flat_map(|operations| fused_convolutions(operations)).collect()
    }
}

/// The operations of a list of layers.
pub fn lower(layers: &[Layer], mode: Mode) -> Vec<Operation> {
    let (mut operations, mut rest) = (Vec::new(), layers);
    while let [first, after @ ..] = rest {
        let operation;
        (operation, rest) = match (mode, first, after) {
            (Mode::Batch, Layer::BatchNorm2d(layer), [Layer::MaxPool(windows), after @ ..])
                if layer.activation == Some(Activation::Relu) =>
            {
                (Operation::BatchNormMaxPool(layer.clone(), *windows), after)
            }
            (_, Layer::BatchNorm2d(layer), [Layer::Convolution(convolution), after @ ..])
                if mode != Mode::Folded && convolution.depthwise && convolution.bias.is_none() =>
            {
                (Operation::BatchNormDepthwise(batch_norm(layer, mode), *convolution), after)
            }
            (Mode::Folded, Layer::Convolution(convolution), [Layer::BatchNorm2d(layer), after @ ..]) => {
                (Operation::FusedConvolution(fold(convolution, layer)), after)
            }
            (Mode::Folded, &Layer::Convolution(convolution), [Layer::Activation(activation), after @ ..]) => {
                let activation = Some(*activation);
                (Operation::FusedConvolution(FusedConvolution { convolution, folded: None, activation }), after)
            }
            (Mode::Folded, Layer::Linear(linear), [Layer::Activation(activation), after @ ..]) => {
                (Operation::FusedLinear(*linear, *activation), after)
            }
            (_, &Layer::LayerNorm(norm), &[Layer::Linear(layer), ref after @ ..]) if mode != Mode::Folded => {
                (Operation::Linear(LinearOperation { before: Some(Before::LayerNorm(norm)), layer }), after)
            }
            (_, &Layer::Activation(kind), &[Layer::Linear(layer), ref after @ ..])
                if mode != Mode::Folded && !kind.is_relu() =>
            {
                (Operation::Linear(LinearOperation { before: Some(Before::Activation(kind)), layer }), after)
            }
            (_, layer, after) => (alone(layer, mode), after),
        };
        operations.push(operation);
    }
    operations
}

/// Where only the class token is read, it is taken before operations that treat every token by itself: they are done for one
/// token then, not for all.
fn take_class_token_early(operations: &mut [Operation]) {
    for place in (1..operations.len()).rev() {
        if operations[place] == Operation::ClassToken && treats_tokens_alone(&operations[place - 1]) {
            operations.swap(place - 1, place);
        }
    }
}

/// Leaves the way through a residual block or a sum out for a share of the images. Its last layer can no longer add the way
/// around by itself.
fn drop_path(operation: &mut Operation, definition: &Definition, share: f64) {
    let (body, last, layer) = match operation {
        Operation::Residual(ResidualBlock { body, last, .. }) => {
            let Last::BatchNorm2d(BatchNormOperation { layer, statistics }) = last else { return };
            let (name, layer, statistics) = (layer.name.clone(), layer.clone(), *statistics);
            *last = Last::Add(layer.activation);
            let layer = BatchNorm2d { activation: None, ..layer };
            (body, Operation::BatchNorm2d(BatchNormOperation { layer, statistics }), name)
        }
        Operation::Sum(SumBlock { body, last }) => {
            let Some(linear) = last.take() else { return };
            let name = definition.parameters[linear.layer.weight].name.clone();
            (body, Operation::Linear(linear), name)
        }
        _ => return,
    };
    body.extend([last, Operation::Dropout(Dropout { of: Dropped::Paths, share, layer })]);
}

fn treats_tokens_alone(operation: &Operation) -> bool {
    match operation {
        Operation::LayerNorm(_) | Operation::Linear(_) | Operation::FusedLinear(..) | Operation::Activation(_) => true,
        Operation::Sum(block) => block.body.iter().all(treats_tokens_alone),
        _ => false,
    }
}

/// The operation of one layer.
fn alone(layer: &Layer, mode: Mode) -> Operation {
    match layer {
        Layer::Convolution(convolution) => Operation::Convolution(*convolution),
        Layer::BatchNorm2d(layer) => Operation::BatchNorm2d(batch_norm(layer, mode)),
        &Layer::Linear(layer) => Operation::Linear(LinearOperation { before: None, layer }),
        Layer::Residual(block) => Operation::Residual(residual(block, mode)),
        Layer::Branches(branches) => Operation::Branches(branches.iter().map(|layers| lower(layers, mode)).collect()),
        &Layer::Activation(activation) => Operation::Activation(activation),
        &Layer::LayerNorm(layer) => Operation::LayerNorm(layer),
        &Layer::Attention { heads } => Operation::Attention { heads },
        &Layer::Tokens(layer) => Operation::Tokens(layer),
        Layer::ClassToken => Operation::ClassToken,
        Layer::Sum(layers) => Operation::Sum(sum(lower(layers, mode))),
        Layer::SqueezeExcitation(gate) => Operation::SqueezeExcitation(lower(gate, mode)),
        Layer::MaxPool(windows) => Operation::MaxPool(*windows),
        Layer::GlobalAverage => Operation::GlobalAverage,
        Layer::Flatten => Operation::Flatten,
        Layer::L2Normalize => Operation::L2Normalize,
        Layer::Tap(name) => Operation::Tap(Feature::Tap(name.clone())),
    }
}

fn sum(mut body: Vec<Operation>) -> SumBlock {
    let last = match body.last() {
        Some(Operation::Linear(last)) => Some(*last),
        _ => None,
    };
    body.truncate(body.len() - usize::from(last.is_some()));
    SumBlock { body, last }
}

fn residual(block: &Residual, mode: Mode) -> ResidualBlock {
    let (body, last) = match (mode, block.body.split_last()) {
        (Mode::Folded, Some((Layer::Convolution(convolution), body))) => {
            (body, Last::FusedConvolution(fold(convolution, &block.last)))
        }
        _ => (block.body.as_slice(), Last::BatchNorm2d(batch_norm(&block.last, mode))),
    };
    ResidualBlock { body: lower(body, mode), shortcut: lower(&block.shortcut, mode), last }
}

fn batch_norm(layer: &BatchNorm2d, mode: Mode) -> BatchNormOperation {
    let statistics = match mode {
        Mode::Batch => TrainingStatistics::Batch,
        Mode::Synchronised => TrainingStatistics::Sync,
        Mode::Running | Mode::Folded => TrainingStatistics::Running,
    };
    BatchNormOperation { layer: layer.clone(), statistics }
}

fn fold(&convolution: &Convolution, layer: &BatchNorm2d) -> FusedConvolution {
    FusedConvolution { convolution, folded: Some(layer.clone()), activation: layer.activation }
}

fn fused_convolutions<'a>(operations: &'a [Operation]) -> Vec<&'a FusedConvolution> {
    let of = |operation: &'a Operation| match operation {
        Operation::FusedConvolution(fused) => vec![fused],
        Operation::Residual(ResidualBlock { body, shortcut, last }) => {
            let last = if let Last::FusedConvolution(fused) = last { Some(fused) } else { None };
            fused_convolutions(body).into_iter().chain(fused_convolutions(shortcut)).chain(last).collect()
        }
        Operation::SqueezeExcitation(inner) | Operation::Sum(SumBlock { body: inner, .. }) => fused_convolutions(inner),
        Operation::Branches(branches) => branches.iter().flat_map(|branch| fused_convolutions(branch)).collect(),
        _ => Vec::new(),
    };
    operations.iter().flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::builder::Builder;
    use crate::nn::geometry::Conv2d;

    const POOL: Pool2d = Pool2d { kernel: [2, 2], stride: [2, 2], padding: [0, 0], ceil: false };

    fn convolution(builder: &mut Builder, name: &str) -> Convolution {
        match builder.convolution(name, 2, 2, Conv2d::square(3, 1, 1)) {
            Layer::Convolution(convolution) => convolution,
            other => panic!("{other:?}"),
        }
    }

    fn normal(layer: &BatchNorm2d, mode: Mode) -> BatchNormOperation {
        let statistics = match mode {
            Mode::Batch => TrainingStatistics::Batch,
            Mode::Synchronised => TrainingStatistics::Sync,
            Mode::Running | Mode::Folded => TrainingStatistics::Running,
        };
        BatchNormOperation { layer: layer.clone(), statistics }
    }

    fn fused(convolution: Convolution, folded: Option<&BatchNorm2d>, relu: bool) -> FusedConvolution {
        FusedConvolution { convolution, folded: folded.cloned(), activation: relu.then_some(Activation::Relu) }
    }

    #[test]
    fn a_max_pool_goes_into_a_normalisation_by_the_batch_with_relu() {
        let mut builder = Builder::new();
        let (activation, linear) = (builder.batch_norm("relu", 2, true), builder.batch_norm("linear", 2, false));
        let layers = |layer: &BatchNorm2d| [Layer::BatchNorm2d(layer.clone()), Layer::MaxPool(POOL)];
        assert_eq!(lower(&layers(&activation), Mode::Batch), [Operation::BatchNormMaxPool(activation.clone(), POOL)]);
        let others = [Mode::Synchronised, Mode::Running, Mode::Folded].map(|mode| (&activation, mode));
        for (layer, mode) in [(&linear, Mode::Batch)].into_iter().chain(others) {
            let apart = [Operation::BatchNorm2d(normal(layer, mode)), Operation::MaxPool(POOL)];
            assert_eq!(lower(&layers(layer), mode), apart, "{layer:?} {mode:?}");
        }
    }

    #[test]
    fn a_depthwise_convolution_goes_with_the_normalisation_before_it_unless_it_is_folded_into_another() {
        let mut builder = Builder::new();
        let before = convolution(&mut builder, "before");
        let bn = builder.batch_norm("bn", 2, true);
        let Layer::Convolution(depthwise) = builder.depthwise("depthwise", 2, Conv2d::square(3, 1, 1)) else {
            panic!("a convolution")
        };
        let layers = [
            Layer::Convolution(before),
            Layer::BatchNorm2d(bn.clone()),
            Layer::Convolution(depthwise),
            Layer::GlobalAverage,
        ];
        for mode in [Mode::Batch, Mode::Synchronised, Mode::Running] {
            let together = Operation::BatchNormDepthwise(normal(&bn, mode), depthwise);
            let expected = [Operation::Convolution(before), together, Operation::GlobalAverage];
            assert_eq!(lower(&layers, mode), expected, "{mode:?}");
        }
        let folded = [
            Operation::FusedConvolution(fused(before, Some(&bn), true)),
            Operation::Convolution(depthwise),
            Operation::GlobalAverage,
        ];
        assert_eq!(lower(&layers, Mode::Folded), folded);
    }

    #[test]
    fn a_convolution_takes_in_what_follows_it_only_where_nothing_learns() {
        let mut builder = Builder::new();
        let (one, two, three) =
            (convolution(&mut builder, "1"), convolution(&mut builder, "2"), convolution(&mut builder, "3"));
        let (bn, other) = (builder.batch_norm("bn", 2, true), builder.batch_norm("other", 2, false));
        let layers = [
            Layer::Convolution(one),
            Layer::BatchNorm2d(bn.clone()),
            Layer::Convolution(two),
            Layer::Activation(Activation::Relu),
            Layer::Convolution(three),
            Layer::MaxPool(POOL),
            Layer::BatchNorm2d(other.clone()),
        ];
        let folded = [
            Operation::FusedConvolution(fused(one, Some(&bn), true)),
            Operation::FusedConvolution(fused(two, None, true)),
            Operation::Convolution(three),
            Operation::MaxPool(POOL),
            Operation::BatchNorm2d(normal(&other, Mode::Folded)),
        ];
        assert_eq!(lower(&layers, Mode::Folded), folded);
        for mode in [Mode::Batch, Mode::Synchronised, Mode::Running] {
            let apart = [
                Operation::Convolution(one),
                Operation::BatchNorm2d(normal(&bn, mode)),
                Operation::Convolution(two),
                Operation::Activation(Activation::Relu),
                Operation::Convolution(three),
                Operation::MaxPool(POOL),
                Operation::BatchNorm2d(normal(&other, mode)),
            ];
            assert_eq!(lower(&layers, mode), apart, "{mode:?}");
        }
    }

    #[test]
    fn a_tap_keeps_its_neighbours_apart() {
        let mut builder = Builder::new();
        let convolution = convolution(&mut builder, "conv");
        let bn = builder.batch_norm("bn", 2, true);
        let tap = |name: &str| (Layer::Tap(name.into()), Operation::Tap(Feature::Tap(name.into())));
        let ((first, first_tap), (second, second_tap)) = (tap("first"), tap("second"));
        let layers =
            [Layer::Convolution(convolution), first, Layer::BatchNorm2d(bn.clone()), second, Layer::MaxPool(POOL)];
        for mode in [Mode::Batch, Mode::Running, Mode::Folded] {
            let expected = [
                Operation::Convolution(convolution),
                first_tap.clone(),
                Operation::BatchNorm2d(normal(&bn, mode)),
                second_tap.clone(),
                Operation::MaxPool(POOL),
            ];
            assert_eq!(lower(&layers, mode), expected, "{mode:?}");
        }
    }

    #[test]
    fn the_end_of_a_block_adds_the_shortcut_and_blocks_are_lowered_within() {
        let mut builder = Builder::new();
        let (one, two, around) =
            (convolution(&mut builder, "1"), convolution(&mut builder, "2"), convolution(&mut builder, "around"));
        let names = ["bn1", "bn2", "bn3"];
        let [bn1, bn2, bn3] = names.map(|name| builder.batch_norm(name, 2, name != "bn3"));
        let block = Layer::Residual(Residual {
            body: vec![Layer::Convolution(one), Layer::BatchNorm2d(bn1.clone()), Layer::Convolution(two)],
            last: bn2.clone(),
            shortcut: vec![Layer::Convolution(around), Layer::BatchNorm2d(bn3.clone())],
        });
        let layers = [Layer::Branches(vec![vec![block], vec![Layer::GlobalAverage]])];
        let within =
            |block| [Operation::Branches(vec![vec![Operation::Residual(block)], vec![Operation::GlobalAverage]])];
        let trained = within(ResidualBlock {
            body: vec![
                Operation::Convolution(one),
                Operation::BatchNorm2d(normal(&bn1, Mode::Batch)),
                Operation::Convolution(two),
            ],
            shortcut: vec![Operation::Convolution(around), Operation::BatchNorm2d(normal(&bn3, Mode::Batch))],
            last: Last::BatchNorm2d(normal(&bn2, Mode::Batch)),
        });
        assert_eq!(lower(&layers, Mode::Batch), trained);
        assert!(fused_convolutions(&trained).is_empty());
        let [first, last, shortcut] =
            [fused(one, Some(&bn1), true), fused(two, Some(&bn2), true), fused(around, Some(&bn3), false)];
        let folded = within(ResidualBlock {
            body: vec![Operation::FusedConvolution(first.clone())],
            shortcut: vec![Operation::FusedConvolution(shortcut.clone())],
            last: Last::FusedConvolution(last.clone()),
        });
        assert_eq!(lower(&layers, Mode::Folded), folded);
        assert_eq!(fused_convolutions(&folded), [&first, &shortcut, &last]);
        assert_eq!(last.bias(), Some(bn2.bias()), "the shift of the normalisation is the bias of both");
    }

    #[test]
    fn every_list_of_a_definition_is_lowered() {
        let mut builder = Builder::new();
        let linear = |layer: &Layer| if let Layer::Linear(linear) = layer { *linear } else { panic!("{layer:?}") };
        let (fc, classifier) = (builder.linear("fc", 2, 2), builder.linear("classifier", 2, 3));
        let (embedding, logits) = (linear(&fc), linear(&classifier));
        let definition = Definition {
            body: vec![Layer::Flatten],
            embedding: vec![fc],
            classifier: vec![classifier],
            output: vec![Layer::L2Normalize],
            parameters: builder.finish(),
            pooled_size: 2,
            embedding_size: 2,
            image_size: 1,
            in_channels: 2,
        };
        let expected = Program {
            body: vec![Operation::Flatten],
            embedding: vec![Operation::Linear(LinearOperation { before: None, layer: embedding })],
            classifier: vec![Operation::Linear(LinearOperation { before: None, layer: logits })],
            output: vec![Operation::L2Normalize],
        };
        assert_eq!(Program::new(&definition, Mode::Batch, None), expected);
    }
}
