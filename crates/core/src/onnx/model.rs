//! An ONNX model as a function from images to vectors.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::engine::{Engine, EngineChoice, Pixels};
use super::graph::{Graph, Number, TensorForm};
use super::input::{InputForm, Layout, Scale, input_of};
use super::output::{OutputForm, Pooling, output_of};
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// The side of the images where neither the graph nor the caller says it: what most networks were trained on.
pub const USUAL_SIZE: usize = 224;

/// ImageNet's mean and deviation, for pixels in [0, 1].
const IMAGENET: ([f32; 3], [f32; 3]) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);

/// What a user may say about an ONNX model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OnnxOptions {
    /// The tensor that is the embedding, an output or one inside. Default: the one output that is, see
    /// [`output`](super::output).
    pub output: Option<String>,
    /// How tokens become one vector. Default: the class token.
    pub pooling: Option<Pooling>,
    /// The side of the images, where the graph leaves it open. Default: 224.
    pub image_size: Option<usize>,
    /// Mean of each channel, for pixels in `[0, 1]`, with `std`. Default: ImageNet's, unless the graph normalises.
    pub mean: Option<Vec<f32>>,
    /// Deviation of each channel.
    pub std: Option<Vec<f32>>,
    /// What runs it.
    pub engine: EngineChoice,
    /// The library of onnxruntime. Default: `RKD_ONNXRUNTIME`, else an installed onnxruntime-node.
    pub onnxruntime: Option<PathBuf>,
}

/// A model that is loaded and judged.
pub struct OnnxModel {
    graph: Graph,
    engine: Engine,
    input: InputForm,
    output: OutputForm,
    size: usize,
    mean: [f32; 3],
    std: [f32; 3],
    length: usize,
    warnings: Vec<String>,
}

/// What was found out, for a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OnnxReport {
    /// The file.
    pub file: String,
    /// BLAKE3 of the file.
    pub hash: String,
    /// The program that wrote it.
    pub producer: String,
    /// The version of ONNX's operations.
    pub opset: i64,
    /// Numbers among the weights.
    pub parameters: usize,
    /// All inputs, with types and shapes.
    pub inputs: Vec<String>,
    /// All outputs, with types and shapes.
    pub outputs: Vec<String>,
    /// Which pixels go in, in words.
    pub pixels: String,
    /// Side of the images.
    pub image_size: usize,
    /// Channels of the images.
    pub channels: usize,
    /// The tensor that is the embedding, and how it becomes one vector.
    pub output: String,
    /// Length of the embedding.
    pub embedding: usize,
    /// What runs it.
    pub engine: String,
    /// Mean time of one image, in a batch of three.
    pub milliseconds_per_image: f64,
    /// Full sentences.
    pub warnings: Vec<String>,
}

impl OnnxModel {
    /// Reads and judges the file, loads it into an engine, and embeds one grey image to see that it runs.
    ///
    /// # Errors
    /// Those of [`Graph::read`], [`input_of`], [`output_of`], [`Engine::load`]; `ERR_INVALID_OPTION` for a size that the
    /// graph does not take, or a normalisation beside one in the graph.
    pub fn open(path: &Path, options: &OnnxOptions, threads: usize) -> Result<OnnxModel> {
        let graph = Graph::read(path)?;
        let input = input_of(&graph)?;
        let output = output_of(&graph, options.output.as_deref(), options.pooling)?;
        let size = size_of(&input, options.image_size)?;
        let mut warnings = Vec::new();
        let (mean, std) = normalization(&input, options, &mut warnings)?;
        let engine = Engine::load(&graph, &output.name, options.engine, options.onnxruntime.as_deref(), threads)?;
        let mut model = OnnxModel { graph, engine, input, output, size, mean, std, length: 0, warnings };
        let grey = vec![128; model.image_length()];
        model.length = model.embed(&grey, 1)?.shape[1];
        Ok(model)
    }

    /// BLAKE3 of the file.
    pub fn hash(&self) -> &str {
        &self.graph.hash
    }

    /// Side of the images it takes.
    pub fn image_size(&self) -> usize {
        self.size
    }

    /// Channels of the images it takes.
    pub fn channels(&self) -> usize {
        self.input.channels
    }

    /// Length of the embedding.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What the user should know, in full sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes of one image.
    fn image_length(&self) -> usize {
        self.size * self.size * self.input.channels
    }

    /// The embeddings `[n, d]` of `n` images `[n, h, w, c]` of bytes.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` where an embedding is no finite number, `ERR_INVALID_ARTEFACT` where the graph gives something else
    /// than one vector an image.
    pub fn embed(&self, images: &[u8], n: usize) -> Result<HostTensor> {
        let step = self.input.batch.unwrap_or(n.max(1));
        let mut all = HostTensor { shape: vec![n, 0], data: Vec::new() };
        for part in images.chunks(step * self.image_length()) {
            let count = part.len() / self.image_length();
            // A graph of a fixed batch gets the last image several times over.
            let mut filled = part.to_vec();
            while filled.len() < step * self.image_length() && self.input.batch.is_some() {
                filled.extend_from_slice(&part[part.len() - self.image_length()..]);
            }
            let rows = filled.len() / self.image_length();
            let vectors = self.vectors(self.engine.run(&self.input, &self.pixels(&filled), self.shape(rows))?, rows)?;
            all.shape[1] = vectors.shape[1];
            all.data.extend_from_slice(&vectors.data[..count * vectors.shape[1]]);
        }
        match all.data.iter().position(|value| !value.is_finite()) {
            None => Ok(all),
            Some(place) => Err(Error::new(Code::NonFinite, "the model's embedding is not a finite number")
                .with_subject(self.graph.path.display().to_string())
                .with_values("finite numbers", format!("{} in image {}", all.data[place], place / all.shape[1]))
                .with_advice("check the normalisation; a float16 export may overflow: export float32")),
        }
    }

    /// Embeds three different images, says what was found out, and warns of embeddings that do not tell them apart.
    pub fn report(&self) -> Result<OnnxReport> {
        let length = self.image_length();
        // A ramp, its mirror image and a chessboard.
        let ramp = (0..length).map(|i| (i % 251) as u8);
        let images: Vec<u8> =
            ramp.clone().chain(ramp.rev()).chain((0..length).map(|i| if i / 8 % 2 == 0 { 0 } else { 255 })).collect();
        let start = Instant::now();
        let vectors = self.embed(&images, 3)?;
        let milliseconds_per_image = start.elapsed().as_secs_f64() * 1e3 / 3.0;
        let rows: Vec<&[f32]> = vectors.data.chunks(self.length).collect();
        let mut warnings = self.warnings.clone();
        if rows[0] == rows[1] && rows[1] == rows[2] {
            warnings.push("Three different images get the same embedding: this output does not depend on the image.".into());
        } else if rows.iter().any(|row| row.iter().all(|value| value == &row[0])) && self.length > 1 {
            warnings.push("All numbers of an embedding are the same: this output is no embedding.".into());
        }
        let list = |tensors: &[TensorForm]| tensors.iter().map(TensorForm::to_string).collect();
        Ok(OnnxReport {
            file: self.graph.path.display().to_string(),
            hash: self.graph.hash.clone(),
            producer: self.graph.producer.clone(),
            opset: self.graph.opset,
            parameters: self.graph.parameters,
            inputs: list(&self.graph.inputs),
            outputs: list(&self.graph.outputs),
            pixels: self.pixels_in_words(),
            image_size: self.size,
            channels: self.input.channels,
            output: format!("{}{}", self.output.name, pooling_in_words(self.output.pooling)),
            embedding: self.length,
            engine: self.engine.name(),
            milliseconds_per_image,
            warnings,
        })
    }

    fn pixels_in_words(&self) -> String {
        let layout = match self.input.layout {
            Layout::ChannelsFirst => "channels first",
            Layout::ChannelsLast => "channels last",
        };
        match (self.input.number, self.input.scale) {
            (Number::Byte, _) => format!("bytes, {layout}"),
            (_, Scale::Raw) => format!("floats of 0 to 255, {layout}; the graph normalises"),
            (_, Scale::Unit) => format!("floats of 0 to 1, {layout}; the graph normalises"),
            (_, Scale::Normalized) => {
                format!("floats, {layout}, minus the mean {:?} over the deviation {:?}", self.mean, self.std)
            }
        }
    }

    fn shape(&self, n: usize) -> [usize; 4] {
        match self.input.layout {
            Layout::ChannelsFirst => [n, self.input.channels, self.size, self.size],
            Layout::ChannelsLast => [n, self.size, self.size, self.input.channels],
        }
    }

    /// Bytes `[n, h, w, c]` as the graph takes them.
    fn pixels(&self, images: &[u8]) -> Pixels {
        let c = self.input.channels;
        let value = |byte: u8, channel: usize| match self.input.scale {
            Scale::Raw => f32::from(byte),
            Scale::Unit => f32::from(byte) / 255.0,
            Scale::Normalized => (f32::from(byte) / 255.0 - self.mean[channel]) / self.std[channel],
        };
        let place = |i: usize| match self.input.layout {
            Layout::ChannelsLast => i,
            // From [n, c, p] to [n, p, c], p pixels.
            Layout::ChannelsFirst => {
                let p = self.size * self.size;
                let (image, channel, pixel) = (i / (c * p), i / p % c, i % p);
                (image * p + pixel) * c + channel
            }
        };
        match self.input.number {
            Number::Byte => Pixels::Bytes((0..images.len()).map(|i| images[place(i)]).collect()),
            _ => Pixels::Floats((0..images.len()).map(|i| value(images[place(i)], place(i) % c)).collect()),
        }
    }

    /// One vector an image of what the graph gave.
    fn vectors(&self, tensor: HostTensor, n: usize) -> Result<HostTensor> {
        let HostTensor { shape, data } = tensor;
        let whole = shape.first() == Some(&n) && shape.iter().product::<usize>() == data.len() && !data.is_empty();
        match (self.output.pooling, &shape[..]) {
            (_, &[_, d]) if whole => Ok(HostTensor { shape: vec![n, d], data }),
            (Pooling::None, &[_, d, 1, 1]) if whole => Ok(HostTensor { shape: vec![n, d], data }),
            (Pooling::ClassToken, &[_, t, d]) if whole => {
                let rows = data.chunks(t * d).flat_map(|image| &image[..d]).copied().collect();
                Ok(HostTensor { shape: vec![n, d], data: rows })
            }
            (Pooling::MeanToken, &[_, t, d]) if whole => {
                let mean = |image: &[f32], k: usize| {
                    (0..t).map(|token| f64::from(image[token * d + k])).sum::<f64>() / t as f64
                };
                let rows = data.chunks(t * d).flat_map(|image| (0..d).map(move |k| mean(image, k) as f32)).collect();
                Ok(HostTensor { shape: vec![n, d], data: rows })
            }
            (Pooling::MeanPixel, &[_, d, h, w]) if whole => {
                let mean = |map: &[f32]| map.iter().map(|&value| f64::from(value)).sum::<f64>() / (h * w) as f64;
                let rows = data.chunks(h * w).map(|map| mean(map) as f32).collect();
                Ok(HostTensor { shape: vec![n, d], data: rows })
            }
            _ => Err(Error::new(Code::InvalidArtefact, "the output is not one vector an image")
                .with_subject(self.output.name.clone())
                .with_values(format!("[{n}, d], tokens [{n}, t, d] or maps [{n}, d, h, w]"), format!("{shape:?}"))
                .with_advice("name another tensor (--teacher-output NAME), or say how it is pooled")),
        }
    }
}

fn size_of(input: &InputForm, asked: Option<usize>) -> Result<usize> {
    match (input.size, asked) {
        (Some(fixed), Some(asked)) if fixed != asked => {
            Err(Error::new(Code::InvalidOption, "the model takes images of another size")
                .with_subject("teacherImageSize")
                .with_values(format!("{fixed}, which the graph fixes"), asked.to_string())
                .with_advice("leave it out, or export the model with dynamic axes"))
        }
        (fixed, asked) => Ok(fixed.or(asked).unwrap_or(USUAL_SIZE)),
    }
}

fn normalization(input: &InputForm, options: &OnnxOptions, warnings: &mut Vec<String>) -> Result<([f32; 3], [f32; 3])> {
    let given = options.mean.as_ref().zip(options.std.as_ref());
    if options.mean.is_some() != options.std.is_some() {
        return Err(Error::new(Code::InvalidOption, "mean and std belong together")
            .with_subject("teacherNormalization")
            .with_values("both or none", "one of them"));
    }
    match (given, input.scale) {
        (Some(_), Scale::Raw | Scale::Unit) => {
            Err(Error::new(Code::InvalidOption, "the model normalises its images itself")
                .with_subject("teacherNormalization")
                .with_values("nothing", "a mean and a deviation")
                .with_advice("leave them out"))
        }
        (Some((mean, std)), Scale::Normalized) => {
            let c = input.channels;
            let whole = mean.len() == c && std.len() == c && mean.iter().all(|value| value.is_finite());
            if !whole || !std.iter().all(|value| value.is_finite() && *value > 0.0) {
                return Err(Error::new(Code::InvalidOption, "images cannot be normalised like this")
                    .with_subject("teacherNormalization")
                    .with_values(
                        format!("a mean and a positive std for each of {c} channels"),
                        format!("mean {mean:?}, std {std:?}"),
                    ));
            }
            let three = |values: &[f32]| std::array::from_fn(|i| values[i % c]);
            Ok((three(mean), three(std)))
        }
        (None, Scale::Normalized) => {
            warnings.push(
                "The model does not say how its images are normalised: ImageNet's mean and deviation are taken. Give others \
                 where it was trained with others."
                    .into(),
            );
            Ok(IMAGENET)
        }
        (None, Scale::Raw | Scale::Unit) => Ok(([0.0; 3], [1.0; 3])),
    }
}

fn pooling_in_words(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::None => "",
        Pooling::ClassToken => ", its class token",
        Pooling::MeanToken => ", the mean of its tokens",
        Pooling::MeanPixel => ", the mean over its pixels",
    }
}
