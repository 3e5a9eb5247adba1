//! Builds lists of layers and registers their parameters by name, in the order of PyTorch's `state_dict`.
//!
//! A name is the path of modules joined by dots. The paths of one network are given in full, so that they can be
//! searched for: `builder.convolution("layer1.0.conv1", ...)` makes the parameter `layer1.0.conv1.weight`.

use super::backend::Activation;
use super::geometry::Conv2d;
use super::layer::{BatchNorm2d, Convolution, Layer, LayerNorm, Linear, ParameterId, Tokens};
use super::parameters::{Layout, ParameterSpec};
use crate::tensor::Init;

/// The parameters registered so far.
#[derive(Debug, Default)]
pub struct Builder {
    parameters: Vec<ParameterSpec>,
}

impl Builder {
    /// No parameters.
    pub fn new() -> Self {
        Builder::default()
    }

    /// What was registered.
    pub fn finish(self) -> Vec<ParameterSpec> {
        self.parameters
    }

    fn register(&mut self, name: String, shape: Vec<usize>, layout: Layout, init: Init) -> ParameterId {
        self.parameters.push(ParameterSpec { name, shape, layout, init, rate: 1.0 });
        self.parameters.len() - 1
    }

    /// A convolution without bias, started from a normal distribution of variance 2 / (kernel area * c_out / groups)
    /// (He et al. 2015, fan-out): torchvision's start of ResNets.
    pub fn convolution(&mut self, name: &str, c_in: usize, c_out: usize, windows: Conv2d) -> Layer {
        self.convolution_from(name, [c_in, c_out], windows, he(c_out, &windows), None)
    }

    /// The same for each of `c` channels on its own: depthwise.
    pub fn depthwise(&mut self, name: &str, c: usize, windows: Conv2d) -> Layer {
        self.convolution(name, c, c, Conv2d { groups: c, ..windows })
    }

    /// As [`convolution`](Builder::convolution), with a bias, which starts at 0: torchvision's start of VGG.
    pub fn convolution_with_zero_bias(&mut self, name: &str, c_in: usize, c_out: usize, windows: Conv2d) -> Layer {
        self.convolution_from(name, [c_in, c_out], windows, he(c_out, &windows), Some(Init::Constant(0.0)))
    }

    /// A convolution with bias, both uniform within 1 / sqrt(fan_in): PyTorch's own start.
    pub fn convolution_with_bias(&mut self, name: &str, c_in: usize, c_out: usize, windows: Conv2d) -> Layer {
        let init = uniform(c_in, &windows);
        self.convolution_from(name, [c_in, c_out], windows, init, Some(init))
    }

    /// The same without bias.
    pub fn convolution_uniform(&mut self, name: &str, c_in: usize, c_out: usize, windows: Conv2d) -> Layer {
        self.convolution_from(name, [c_in, c_out], windows, uniform(c_in, &windows), None)
    }

    fn convolution_from(
        &mut self,
        name: &str,
        [c_in, c_out]: [usize; 2],
        windows: Conv2d,
        weight: Init,
        bias: Option<Init>,
    ) -> Layer {
        let shape = vec![c_out, c_in / windows.groups, windows.kernel[0], windows.kernel[1]];
        let weight = self.register(format!("{name}.weight"), shape, Layout::Convolution, weight);
        let bias = bias.map(|init| self.register(format!("{name}.bias"), vec![c_out], Layout::Plain, init));
        let depthwise = c_in > 1 && windows.groups == c_in && c_in == c_out;
        Layer::Convolution(Convolution { weight, bias, windows, depthwise })
    }

    /// A batch normalisation of `c` channels with PyTorch's usual epsilon and momentum, started as the identity.
    pub fn batch_norm(&mut self, name: &str, c: usize, relu: bool) -> BatchNorm2d {
        let weight = self.register(format!("{name}.weight"), vec![c], Layout::Plain, Init::Constant(1.0));
        self.register(format!("{name}.bias"), vec![c], Layout::Plain, Init::Constant(0.0));
        self.register(format!("{name}.running_mean"), vec![c], Layout::Statistic, Init::Constant(0.0));
        self.register(format!("{name}.running_var"), vec![c], Layout::Statistic, Init::Constant(1.0));
        self.register(format!("{name}.num_batches_tracked"), vec![], Layout::Statistic, Init::Constant(0.0));
        let activation = relu.then_some(Activation::Relu);
        BatchNorm2d { weight, name: name.to_string(), activation, epsilon: 1e-5, momentum: BatchNorm2d::MOMENTUM }
    }

    /// A linear layer, weight and bias uniform within 1 / sqrt(in): PyTorch's own start (its `kaiming_uniform` with
    /// a = sqrt(5) is this bound).
    pub fn linear(&mut self, name: &str, size_in: usize, size_out: usize) -> Layer {
        let init = Init::Uniform { bound: 1.0 / (size_in as f64).sqrt() };
        self.linear_from(name, [size_in, size_out], init, init)
    }

    /// A linear layer, its weight normal with `deviation` and its bias 0: torchvision's start of VGG's head.
    pub fn linear_normal(&mut self, name: &str, size_in: usize, size_out: usize, deviation: f64) -> Layer {
        self.linear_from(name, [size_in, size_out], Init::Normal { deviation }, Init::Constant(0.0))
    }

    /// A layer normalisation of `c` channels, started as the identity.
    pub fn layer_norm(&mut self, name: &str, c: usize, epsilon: f64) -> Layer {
        let weight = self.register(format!("{name}.weight"), vec![c], Layout::Plain, Init::Constant(1.0));
        self.register(format!("{name}.bias"), vec![c], Layout::Plain, Init::Constant(0.0));
        Layer::LayerNorm(LayerNorm { weight, epsilon })
    }

    /// A class token and the embeddings of `positions` tokens of `c` channels, started as timm starts them: normal with a
    /// deviation of 1e-6 and of 0.02.
    pub fn tokens(&mut self, positions: usize, c: usize) -> Layer {
        let normal = |deviation| Init::Normal { deviation };
        let class = self.register("cls_token".into(), vec![1, 1, c], Layout::Plain, normal(1e-6));
        self.register("pos_embed".into(), vec![1, positions, c], Layout::Plain, normal(0.02));
        Layer::Tokens(Tokens { class })
    }

    fn linear_from(&mut self, name: &str, [size_in, size_out]: [usize; 2], weight: Init, bias: Init) -> Layer {
        let weight = self.register(format!("{name}.weight"), vec![size_out, size_in], Layout::Plain, weight);
        self.register(format!("{name}.bias"), vec![size_out], Layout::Plain, bias);
        Layer::Linear(Linear { weight })
    }
}

/// PyTorch's own start of a convolution.
fn uniform(c_in: usize, windows: &Conv2d) -> Init {
    let fan_in = c_in / windows.groups * windows.kernel[0] * windows.kernel[1];
    Init::Uniform { bound: 1.0 / (fan_in as f64).sqrt() }
}

/// Normal of variance 2 / (kernel area * c_out / groups).
fn he(c_out: usize, windows: &Conv2d) -> Init {
    let fan_out = (windows.kernel[0] * windows.kernel[1] * c_out / windows.groups).max(1);
    Init::Normal { deviation: (2.0 / fan_out as f64).sqrt() }
}
