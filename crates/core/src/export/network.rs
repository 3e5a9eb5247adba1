//! A stored network as an ONNX graph in float32.
//!
//! ```text
//! floats: pixel_values [batch, 3, s, s], normalised      bytes: pixels [batch, s, s, 3], as decoded
//!                                |                                   | Cast, Transpose, (x - 255 mean) / (255 std)
//!                                +-----------------------------------+
//!                                | the operations of an evaluation pass, normalisations folded into convolutions
//!                     image_embeds [batch, d]
//! ```
//! The operations are those of [`lowering`](crate::nn::lowering) for a network that does not learn, so weights and results
//! are those of [`inference`](crate::nn::inference), but for the order of sums.
//!
//! A network for grey images takes three channels all the same, as every other program feeds them: its first weight is
//! spread over them in the proportions by which Pillow makes grey of colours, which for a grey image changes nothing.
//!
//! Tokens of a transformer are the rows of a matrix, `[n t, c]`, so that its linear layers are those of any network; attention
//! alone sees images and heads. GELU is written out in the form that engines know and join.
//!
//! Letters: n images, t tokens, c channels, s the side of an image, d length of the embedding.

use super::ExportInput;
use super::graph::{Attribute, Axis, Graph, Number, Tensor, Values};
use crate::artefact::model::Model;
use crate::data::{InputKind, InputSpec, Normalization};
use crate::error::{Code, Error, Result};
use crate::nn::backend::{Activation, CEILING};
use crate::nn::geometry::{Conv2d, Pool2d};
use crate::nn::layer::{LayerNorm, ParameterId, Tokens};
use crate::nn::lowering::{FusedConvolution, Last, Operation, ResidualBlock, SumBlock};
use crate::nn::{Inference, Portable};

/// The shares of red, green and blue in grey: ITU-R 601-2 in Pillow's whole numbers.
const GREY: [f64; 3] = [19_595.0 / 65_536.0, 38_470.0 / 65_536.0, 7_471.0 / 65_536.0];

/// What norms are raised to before they divide: as PyTorch's `normalize`, and as the own kernel.
const SMALLEST_NORM: f32 = 1e-12;

/// The names that other programs look for.
const PIXEL_VALUES: &str = "pixel_values";
const PIXELS: &str = "pixels";
const IMAGE_EMBEDS: &str = "image_embeds";

/// The channels of the images that an export of `model` takes.
pub fn channels(model: &Model) -> usize {
    match model.card.backbone.in_channels {
        1 => 3,
        channels => channels,
    }
}

/// What an export of `model` makes of images: as [`Normalization`] has it for those that come as bytes, none.
pub fn input(model: &Model, input: ExportInput) -> InputSpec {
    let channels = channels(model);
    let raw = || Normalization { mean: vec![0.0; channels], std: vec![1.0 / 255.0; channels] };
    let normalization = if input == ExportInput::Bytes { raw() } else { normalization(model) };
    InputSpec { kind: InputKind::Images, image_size: model.card.backbone.image_size, channels, normalization }
}

/// The normalisation of the images that an export of `model` takes.
pub fn normalization(model: &Model) -> Normalization {
    let Normalization { mean, std } = &model.card.normalization;
    let spread = |values: &[f32]| values.iter().copied().cycle().take(channels(model)).collect();
    Normalization { mean: spread(mean), std: spread(std) }
}

/// The weight of a first layer for grey images, `[outputs, places]`, as one for colour images: `[outputs, 3, places]`.
pub fn spread_grey<T: Copy + Into<f64>>(weight: &[T], outputs: usize) -> Vec<f64> {
    let row = |row: &[T]| {
        let row: Vec<f64> = row.iter().map(|&value| value.into()).collect();
        GREY.into_iter().flat_map(move |share| row.clone().into_iter().map(move |value| share * value))
    };
    weight.chunks_exact((weight.len() / outputs.max(1)).max(1)).flat_map(row).collect()
}

/// The graph of `model`'s embedding.
///
/// # Errors
/// `ERR_INVALID_ARTEFACT` for tensors that do not fit the network.
pub fn graph_of(model: &Model, input: ExportInput) -> Result<Graph> {
    let mut network = model.network(Portable::cpu_f32())?.into_inference()?;
    network.keep_taps(&[]);
    let spec = &model.card.backbone;
    let (side, channels, embedding) = (spec.image_size, channels(model), network.embedding_size());
    let [batch, side_axis, channels_axis] = [Axis::Batch, Axis::Length(side), Axis::Length(channels)];
    let input = match input {
        ExportInput::Floats => Tensor {
            name: PIXEL_VALUES.into(),
            number: Number::Float32,
            shape: vec![batch.clone(), channels_axis, side_axis.clone(), side_axis],
        },
        ExportInput::Bytes => Tensor {
            name: PIXELS.into(),
            number: Number::Uint8,
            shape: vec![batch.clone(), side_axis.clone(), side_axis, channels_axis],
        },
    };
    let output =
        Tensor { name: IMAGE_EMBEDS.into(), number: Number::Float32, shape: vec![batch, Axis::Length(embedding)] };
    let graph = Graph { name: spec.kind.clone(), nodes: Vec::new(), constants: Vec::new(), input, output };
    let mut writer = Writer { network: &network, graph, grey: spec.in_channels == 1, count: 0, tokens: [0; 2] };
    let x = match writer.graph.input.number {
        Number::Uint8 => writer.normalize(&normalization(model)),
        _ => PIXEL_VALUES.to_string(),
    };
    let program = network.program();
    let mut place = Place { x, side: [side; 2] };
    for operations in [&program.body, &program.embedding, &program.output] {
        place = writer.run(operations, place)?;
    }
    // The last operation gives the output, whatever it is.
    let mut graph = writer.graph;
    match graph.nodes.last_mut() {
        Some(node) if node.output == place.x => node.output = IMAGE_EMBEDS.into(),
        _ => return Err(Error::new(Code::Internal, "a network ends without an operation")),
    }
    Ok(graph)
}

/// A tensor on its way through the network.
#[derive(Clone)]
struct Place {
    /// Its name.
    x: String,
    /// Height and width of the map.
    side: [usize; 2],
}

struct Writer<'a> {
    network: &'a Inference<Portable>,
    graph: Graph,
    /// Whether the next weight is the first one of a network for grey images.
    grey: bool,
    /// Operations without a name of their own so far.
    count: usize,
    /// Tokens of an image and channels of a token.
    tokens: [usize; 2],
}

impl Writer<'_> {
    /// Bytes `[n, s, s, c]` as normalised floats `[n, c, s, s]`.
    fn normalize(&mut self, normalization: &Normalization) -> String {
        let graph = &mut self.graph;
        let scaled = |values: &[f32]| values.iter().map(|&value| (f64::from(value) * 255.0) as f32).collect::<Vec<_>>();
        let shape = [1, normalization.mean.len(), 1, 1];
        let mean = graph.constant("mean", &shape, Values::Float32(scaled(&normalization.mean)));
        let deviation = graph.constant("std", &shape, Values::Float32(scaled(&normalization.std)));
        let floats = graph.add("Cast", &[PIXELS], "floats", vec![("to", Attribute::Int(Number::Float32 as i64))]);
        let first =
            graph.add("Transpose", &[&floats], "channels_first", vec![("perm", Attribute::Ints(vec![0, 3, 1, 2]))]);
        let centred = graph.add("Sub", &[&first, &mean], "centred", Vec::new());
        graph.add("Div", &[&centred, &deviation], "normalized", Vec::new())
    }

    fn run(&mut self, operations: &[Operation], mut place: Place) -> Result<Place> {
        for operation in operations {
            place = self.operation(operation, place)?;
        }
        Ok(place)
    }

    fn operation(&mut self, operation: &Operation, Place { x, side }: Place) -> Result<Place> {
        let flat = |x| Place { x, side: [1; 2] };
        Ok(match operation {
            Operation::FusedConvolution(fused) => self.convolution(fused, &x, side)?,
            &Operation::Convolution(convolution) => {
                self.convolution(&FusedConvolution { convolution, folded: None, activation: None }, &x, side)?
            }
            Operation::Linear(linear) => flat(self.linear(linear.layer.weight, &x)?),
            Operation::LayerNorm(layer) => flat(self.layer_norm(layer, &x)?),
            &Operation::Attention { heads } => flat(self.attention(heads, &x)),
            Operation::Tokens(tokens) => flat(self.add_tokens(tokens, &x, side)?),
            Operation::ClassToken => flat(self.class_token(&x)),
            &Operation::FusedLinear(linear, activation) => {
                let through = self.linear(linear.weight, &x)?;
                flat(self.activate(activation, through))
            }
            Operation::Sum(SumBlock { body, last }) => {
                let mut through = self.run(body, Place { x: x.clone(), side })?;
                if let Some(last) = last {
                    through.x = self.linear(last.layer.weight, &through.x)?;
                }
                let name = format!("{}.sum", through.x);
                flat(self.graph.add("Add", &[&x, &through.x], name, Vec::new()))
            }
            Operation::Residual(block) => self.residual(block, Place { x, side })?,
            Operation::Branches(branches) => {
                let ends = branches.iter().map(|branch| self.run(branch, Place { x: x.clone(), side }));
                let ends = ends.collect::<Result<Vec<_>>>()?;
                let names: Vec<&str> = ends.iter().map(|end| end.x.as_str()).collect();
                let side = ends.first().map_or(side, |end| end.side);
                let axis = vec![("axis", Attribute::Int(1))];
                let name = self.next("concat");
                Place { x: self.graph.add("Concat", &names, name, axis), side }
            }
            &Operation::Activation(activation) => Place { x: self.activate(activation, x), side },
            Operation::SqueezeExcitation(gate) => self.squeeze_excitation(gate, Place { x, side })?,
            Operation::MaxPool(windows) => self.max_pool(windows, &x, side)?,
            Operation::GlobalAverage => {
                let name = self.next("average");
                let average = self.graph.add("GlobalAveragePool", &[&x], name, Vec::new());
                flat(self.flatten(&average))
            }
            Operation::Flatten => flat(self.flatten(&x)),
            Operation::L2Normalize => flat(self.l2_normalize(&x)),
            Operation::Tap(_) => Place { x, side },
            Operation::Dropout(_) => return Err(Error::new(Code::Internal, "an evaluation pass leaves nothing out")),
            Operation::BatchNorm2d(_) | Operation::BatchNormMaxPool(..) | Operation::BatchNormDepthwise(..) => {
                return Err(Error::new(Code::Internal, "a normalisation stands behind no convolution"));
            }
        })
    }

    fn convolution(&mut self, fused: &FusedConvolution, x: &str, side: [usize; 2]) -> Result<Place> {
        let place = self.bare_convolution(fused, x, side)?;
        Ok(match fused.activation {
            Some(activation) => Place { x: self.activate(activation, place.x), ..place },
            None => place,
        })
    }

    fn bare_convolution(&mut self, fused: &FusedConvolution, x: &str, side: [usize; 2]) -> Result<Place> {
        let windows = fused.convolution.windows;
        let name = self.weight(fused.convolution.weight)?;
        let mut inputs = vec![x.to_string(), format!("{name}.weight")];
        if let Some(bias) = fused.bias() {
            let (_, values) = self.network.parameter(bias)?;
            inputs.push(self.graph.constant(format!("{name}.bias"), &[values.len()], Values::Float32(values)));
        }
        let [top, left] = windows.padding;
        let [below, right] = [top + windows.extra[0], left + windows.extra[1]];
        let attributes = vec![
            ("kernel_shape", ints(windows.kernel)),
            ("strides", ints(windows.stride)),
            ("pads", ints([top, left, below, right])),
            ("dilations", ints(windows.dilation)),
            ("group", Attribute::Int(windows.groups as i64)),
        ];
        let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
        Ok(Place { x: self.graph.add("Conv", &inputs, name, attributes), side: Conv2d::output(&windows, side)? })
    }

    /// Adds a weight as a constant, spread over three channels where it is the first of a network for grey images. Gives the
    /// name of its layer.
    fn weight(&mut self, id: ParameterId) -> Result<String> {
        let (spec, mut values) = self.network.parameter(id)?;
        let (mut shape, outputs) = (spec.shape.clone(), spec.shape.first().copied().unwrap_or(1));
        let layer = spec.name.trim_end_matches(".weight").to_string();
        if std::mem::take(&mut self.grey) {
            values = spread_grey(&values, outputs).into_iter().map(|value| value as f32).collect();
            if let Some(inputs) = shape.get_mut(1) {
                *inputs *= GREY.len();
            }
        }
        self.graph.constant(format!("{layer}.weight"), &shape, Values::Float32(values));
        Ok(layer)
    }

    fn linear(&mut self, weight: ParameterId, x: &str) -> Result<String> {
        let layer = self.weight(weight)?;
        let (_, bias) = self.network.parameter(weight + 1)?;
        let bias = self.graph.constant(format!("{layer}.bias"), &[bias.len()], Values::Float32(bias));
        let inputs = [x, &format!("{layer}.weight"), &bias];
        Ok(self.graph.add("Gemm", &inputs, layer, vec![("transB", Attribute::Int(1))]))
    }

    fn layer_norm(&mut self, &LayerNorm { weight, epsilon }: &LayerNorm, x: &str) -> Result<String> {
        let (spec, factor) = self.network.parameter(weight)?;
        let (_, bias) = self.network.parameter(weight + 1)?;
        let layer = spec.name.trim_end_matches(".weight").to_string();
        let factor = self.graph.constant(format!("{layer}.factor"), &[factor.len()], Values::Float32(factor));
        let bias = self.graph.constant(format!("{layer}.bias"), &[bias.len()], Values::Float32(bias));
        let attributes = vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon as f32))];
        Ok(self.graph.add("LayerNormalization", &[x, &factor, &bias], layer, attributes))
    }

    /// `[n, c, h, w]` to `[n t, c]`. A row of zeros goes before the patches, to which the class token is added with its
    /// position.
    fn add_tokens(&mut self, &Tokens { class }: &Tokens, x: &str, [h, w]: [usize; 2]) -> Result<String> {
        let (_, class_token) = self.network.parameter(class)?;
        let (_, mut positions) = self.network.parameter(class + 1)?;
        positions.iter_mut().zip(&class_token).for_each(|(position, class)| *position += class);
        let (t, c) = (1 + h * w, class_token.len());
        self.tokens = [t, c];
        let columns = self.reshape(x, &[-1, c as i64, (h * w) as i64], "patch_columns");
        let rows = self.transpose(&columns, &[0, 2, 1], "patches");
        let graph = &mut self.graph;
        let pads = graph.constant("class_token_row", &[6], Values::Int64(vec![0, 1, 0, 0, 0, 0]));
        let padded = graph.add("Pad", &[&rows, &pads], "patches_behind_a_row", Vec::new());
        let positions = graph.constant("positions", &[1, t, c], Values::Float32(positions));
        let tokens = graph.add("Add", &[&padded, &positions], "tokens_of_images", Vec::new());
        Ok(self.reshape(&tokens, &[-1, c as i64], "tokens"))
    }

    /// `[n t, 3 c]` to `[n t, c]`.
    fn attention(&mut self, heads: usize, x: &str) -> String {
        let [t, c] = self.tokens.map(|length| length as i64);
        let (heads, d) = (heads as i64, c / heads as i64);
        let name = self.next("attention");
        let all = self.reshape(x, &[-1, t, 3, heads, d], &format!("{name}.split"));
        let all = self.transpose(&all, &[2, 0, 3, 1, 4], &format!("{name}.heads"));
        let [query, key, value] = ["query", "key", "value"].map(|part| format!("{name}.{part}"));
        for (place, part) in [&query, &key, &value].into_iter().enumerate() {
            let place = self.once(&format!("part_{place}"), &[], Values::Int64(vec![place as i64]));
            self.graph.add("Gather", &[&all, &place], part, vec![("axis", Attribute::Int(0))]);
        }
        let key = self.transpose(&key, &[0, 1, 3, 2], &format!("{name}.key_columns"));
        let factor = self.once("attention_factor", &[], Values::Float32(vec![1.0 / (d as f32).sqrt()]));
        let graph = &mut self.graph;
        let query = graph.add("Mul", &[&query, &factor], format!("{name}.scaled_query"), Vec::new());
        let scores = graph.add("MatMul", &[&query, &key], format!("{name}.scores"), Vec::new());
        let last = vec![("axis", Attribute::Int(-1))];
        let shares = graph.add("Softmax", &[&scores], format!("{name}.probabilities"), last);
        let sums = graph.add("MatMul", &[&shares, &value], format!("{name}.values"), Vec::new());
        let sums = self.transpose(&sums, &[0, 2, 1, 3], &format!("{name}.tokens"));
        self.reshape(&sums, &[-1, c], &name)
    }

    /// `[n t, c]` to `[n, c]`.
    fn class_token(&mut self, x: &str) -> String {
        let [t, c] = self.tokens.map(|length| length as i64);
        let images = self.reshape(x, &[-1, t, c], "tokens_of_images_at_the_end");
        let place = self.once("part_0", &[], Values::Int64(vec![0]));
        self.graph.add("Gather", &[&images, &place], "class_token", vec![("axis", Attribute::Int(1))])
    }

    fn reshape(&mut self, x: &str, shape: &[i64], name: &str) -> String {
        let shape = self.graph.constant(format!("{name}.shape"), &[shape.len()], Values::Int64(shape.to_vec()));
        self.graph.add("Reshape", &[x, &shape], name, Vec::new())
    }

    fn transpose(&mut self, x: &str, order: &[i64], name: &str) -> String {
        self.graph.add("Transpose", &[x], name, vec![("perm", Attribute::Ints(order.to_vec()))])
    }

    /// A constant that several operations read; gives its name.
    fn once(&mut self, name: &str, shape: &[usize], values: Values) -> String {
        if self.graph.constants.iter().all(|constant| constant.name != name) {
            self.graph.constant(name, shape, values);
        }
        name.to_string()
    }

    fn residual(&mut self, block: &ResidualBlock, place: Place) -> Result<Place> {
        let Last::FusedConvolution(last) = &block.last else {
            return Err(Error::new(Code::Internal, "a block ends without a convolution"));
        };
        let before = self.run(&block.body, place.clone())?;
        let end = self.bare_convolution(last, &before.x, before.side)?;
        let around = self.run(&block.shortcut, place)?;
        let sum = self.graph.add("Add", &[&end.x, &around.x], format!("{}.sum", end.x), Vec::new());
        Ok(match last.activation {
            Some(activation) => Place { x: self.activate(activation, sum), side: end.side },
            None => Place { x: sum, side: end.side },
        })
    }

    fn activate(&mut self, activation: Activation, x: String) -> String {
        let name = format!("{x}.{}", name_of(activation));
        let bounds = [("relu6.low", 0.0), ("relu6.high", CEILING)];
        let of_gelu = [("gelu.sqrt_2", std::f32::consts::SQRT_2), ("gelu.one", 1.0), ("gelu.half", 0.5)];
        let constants = match activation {
            Activation::Relu6 => &bounds[..],
            Activation::Gelu => &of_gelu,
            _ => &[],
        };
        for &(name, value) in constants {
            self.once(name, &[], Values::Float32(vec![value]));
        }
        let graph = &mut self.graph;
        match activation {
            Activation::Relu => graph.add("Relu", &[&x], name, Vec::new()),
            Activation::Relu6 => graph.add("Clip", &[&x, bounds[0].0, bounds[1].0], name, Vec::new()),
            Activation::Gelu => {
                let [root, one, half] = of_gelu.map(|(name, _)| name);
                let scaled = graph.add("Div", &[&x, root], format!("{x}.scaled"), Vec::new());
                let erf = graph.add("Erf", &[&scaled], format!("{x}.erf"), Vec::new());
                let sum = graph.add("Add", &[&erf, one], format!("{x}.erf_and_one"), Vec::new());
                let product = graph.add("Mul", &[&x, &sum], format!("{x}.twice"), Vec::new());
                graph.add("Mul", &[&product, half], name, Vec::new())
            }
            Activation::HardSwish => graph.add("HardSwish", &[&x], name, Vec::new()),
            Activation::HardSigmoid => {
                let slope = vec![("alpha", Attribute::Float(1.0 / 6.0)), ("beta", Attribute::Float(0.5))];
                graph.add("HardSigmoid", &[&x], name, slope)
            }
            Activation::Sigmoid => graph.add("Sigmoid", &[&x], name, Vec::new()),
            Activation::Silu => {
                let sigmoid = graph.add("Sigmoid", &[&x], format!("{x}.sigmoid"), Vec::new());
                graph.add("Mul", &[&x, &sigmoid], name, Vec::new())
            }
        }
    }

    fn squeeze_excitation(&mut self, gate: &[Operation], place: Place) -> Result<Place> {
        let name = self.next("squeeze");
        let mean = self.graph.add("GlobalAveragePool", &[&place.x], name, Vec::new());
        let gate = self.run(gate, Place { x: mean, side: [1; 2] })?;
        let name = self.next("excite");
        Ok(Place { x: self.graph.add("Mul", &[&place.x, &gate.x], name, Vec::new()), side: place.side })
    }

    fn max_pool(&mut self, windows: &Pool2d, x: &str, side: [usize; 2]) -> Result<Place> {
        let output = windows.output(side)?;
        // Engines have disagreed on `ceil_mode`; padding below and to the right, which never wins, says the same.
        let end = |axis: usize| {
            let covered = (output[axis] - 1) * windows.stride[axis] + windows.kernel[axis];
            covered.saturating_sub(side[axis] + windows.padding[axis])
        };
        let attributes = vec![
            ("kernel_shape", ints(windows.kernel)),
            ("strides", ints(windows.stride)),
            ("pads", ints([windows.padding[0], windows.padding[1], end(0), end(1)])),
        ];
        let name = self.next("max_pool");
        Ok(Place { x: self.graph.add("MaxPool", &[x], name, attributes), side: output })
    }

    fn flatten(&mut self, x: &str) -> String {
        let name = self.next("flatten");
        self.graph.add("Flatten", &[x], name, vec![("axis", Attribute::Int(1))])
    }

    fn l2_normalize(&mut self, x: &str) -> String {
        let graph = &mut self.graph;
        let smallest = graph.constant("smallest_norm", &[1], Values::Float32(vec![SMALLEST_NORM]));
        let axes = vec![("axes", Attribute::Ints(vec![1])), ("keepdims", Attribute::Int(1))];
        let norm = graph.add("ReduceL2", &[x], "euclidean_norm", axes);
        let divisor = graph.add("Max", &[&norm, &smallest], "divisor", Vec::new());
        graph.add("Div", &[x, &divisor], "unit", Vec::new())
    }

    fn next(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}_{}", self.count)
    }
}

/// What a tensor is called after its activation.
fn name_of(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu | Activation::Relu6 => "relu",
        Activation::HardSwish => "hard_swish",
        Activation::HardSigmoid => "hard_sigmoid",
        Activation::Sigmoid => "sigmoid",
        Activation::Silu => "silu",
        Activation::Gelu => "gelu",
    }
}

fn ints<const N: usize>(values: [usize; N]) -> Attribute {
    Attribute::Ints(values.into_iter().map(|value| value as i64).collect())
}
