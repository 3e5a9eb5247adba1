//! A network as plain data: layers that name their parameters by index.
//!
//! Nothing here computes. [`super::lowering`] makes a list of operations of it, which [`super::forward`] and
//! [`super::backward`] run on any backend, so a backbone is a table of layers and no code is written twice per device.

use super::backend::Activation;
use super::geometry::{Conv2d, Pool2d};
use super::parameters::ParameterSpec;

/// Index of a parameter in [`Definition::parameters`].
pub type ParameterId = usize;

/// One layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// Convolution.
    Convolution(Convolution),
    /// Batch normalisation, with the activation that follows it.
    BatchNorm2d(BatchNorm2d),
    /// An activation on its own.
    Activation(Activation),
    /// Max pool.
    MaxPool(Pool2d),
    /// Mean over pixels.
    GlobalAverage,
    /// `[n, h, w, c]` to `[n, c * h * w]`, in PyTorch's order.
    Flatten,
    /// Linear layer.
    Linear(Linear),
    /// A block whose input is added to its output.
    Residual(Residual),
    /// Layer normalisation.
    LayerNorm(LayerNorm),
    /// Self-attention of so many heads on Q, K and V, which lie side by side along the channels.
    Attention {
        /// The heads.
        heads: usize,
    },
    /// A map as a row of tokens behind a class token, with the embeddings of their positions.
    Tokens(Tokens),
    /// The class token of a row of tokens: `[n, t, 1, c]` to `[n, c]`.
    ClassToken,
    /// The input added to what the layers make of it: half a block of a transformer.
    Sum(Vec<Layer>),
    /// The input times what the layers make of its mean over pixels, `[n, 1, 1, c]`: squeeze and excitation (Hu et al. 2018).
    SqueezeExcitation(Vec<Layer>),
    /// Several ways from the same input, whose outputs lie side by side along the channels: an inception module.
    Branches(Vec<Vec<Layer>>),
    /// Rows divided by their Euclidean norm.
    L2Normalize,
    /// The activation here is a feature of this name.
    Tap(String),
}

/// A convolution and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// The weight.
    pub weight: ParameterId,
    /// The bias.
    pub bias: Option<ParameterId>,
    /// The windows.
    pub windows: Conv2d,
    /// Whether every channel is a group of its own.
    pub depthwise: bool,
}

/// A batch normalisation and its parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchNorm2d {
    /// The scale; the shift and the three running statistics follow it in the list of parameters.
    pub weight: ParameterId,
    /// The layer's name, for errors.
    pub name: String,
    /// The activation that follows.
    pub activation: Option<Activation>,
    /// Added to the variance.
    pub epsilon: f64,
    /// Share of the batch in the running statistics.
    pub momentum: f64,
}

impl BatchNorm2d {
    /// PyTorch's usual share of the batch in the running statistics.
    pub const MOMENTUM: f64 = 0.1;

    /// The shift.
    pub fn bias(&self) -> ParameterId {
        self.weight + 1
    }
    /// The running mean.
    pub fn running_mean(&self) -> ParameterId {
        self.weight + 2
    }
    /// The running variance.
    pub fn running_variance(&self) -> ParameterId {
        self.weight + 3
    }
    /// The number of batches seen.
    pub fn batches(&self) -> ParameterId {
        self.weight + 4
    }
}

/// A layer normalisation and its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// The scale; the shift follows it.
    pub weight: ParameterId,
    /// Added to the variance.
    pub epsilon: f64,
}

/// The tokens of a vision transformer and their parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The class token; the embedding of the positions follows it.
    pub class: ParameterId,
}

/// A linear layer and its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// The weight; the bias follows it.
    pub weight: ParameterId,
}

/// `y = relu(norm(body(x)) + shortcut(x))`: the block of He et al. 2016.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    /// The way through the block, without its last normalisation.
    pub body: Vec<Layer>,
    /// The last normalisation; the shortcut is added to its result, before the ReLU.
    pub last: BatchNorm2d,
    /// The way around; empty is the identity.
    pub shortcut: Vec<Layer>,
}

/// A whole network: four lists of layers and the parameters they name.
///
/// `pooled = body(images)`, `raw = embedding(pooled)`, `logits = classifier(raw)`, `embedding = output(raw)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Images to the pooled feature `[n, d]`.
    pub body: Vec<Layer>,
    /// The pooled feature to the embedding.
    pub embedding: Vec<Layer>,
    /// The embedding to the logits; empty: no logits.
    pub classifier: Vec<Layer>,
    /// What follows the embedding: the L2 normalisation, or nothing.
    pub output: Vec<Layer>,
    /// The parameters, in torchvision's order.
    pub parameters: Vec<ParameterSpec>,
    /// Height and width of the images it takes.
    pub image_size: usize,
    /// Channels of the images it takes.
    pub in_channels: usize,
    /// Length of the pooled feature.
    pub pooled_size: usize,
    /// Length of the embedding.
    pub embedding_size: usize,
}
