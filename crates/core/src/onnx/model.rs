//! An ONNX model as a function from images to vectors.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::engine::{Engine, EngineChoice, Pixels, choose};
use super::graph::{Graph, Number, TensorForm};
use super::input::{InputForm, LARGEST_SIZE, Layout, Scale, channels_first, input_of};
use super::output::{OutputForm, Pooling, output_of};
use super::preprocessor::Preprocessor;
use crate::data::{InputKind, InputSpec, Normalization};
use crate::error::{Code, Error, Result};
use crate::input::{Whole, nullable, nullable_via};
use crate::tensor::HostTensor;

/// The side of the images where neither the graph nor the caller says it: what most networks were trained on.
const USUAL_SIZE: usize = 224;

/// The most images at once that a graph may ask for.
const LARGEST_BATCH: usize = 4096;

/// How far, of its length, an embedding may be from that of the same image beside others: where int8's scale follows the batch
/// it is a little away, with dropout and batch statistics far.
const STEADY: f64 = 0.25;

/// Embeddings that are nearer, of their length, differ by rounding alone.
const ROUNDING: f64 = 1e-6;

/// What a user may say about an ONNX model. What is left open, [`OnnxOptions::resolve`] finds out from the file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct OnnxOptions {
    /// The tensor that is the embedding: an output, or with rten one inside.
    /// @default `image_embeds`, `pooler_output` or another usual name; the only output; the only one of two axes
    #[serde(deserialize_with = "nullable")]
    pub output: Option<String>,
    /// How an output of tokens becomes one vector. @default "class-token"
    #[serde(deserialize_with = "nullable")]
    pub pooling: Option<Pooling>,
    /// Side of the images, 1 to 1024, where the graph leaves it open. @default what `preprocessor_config.json` beside the
    /// file says, else 224
    #[serde(deserialize_with = "nullable_via::<Whole<1, { LARGEST_SIZE as u64 }>, _, _>")]
    pub image_size: Option<usize>,
    /// Mean and standard deviation of each channel, by which pixels from 0 to 1 are normalised before they go in.
    /// @default nothing where the graph normalises; else what `preprocessor_config.json` beside the file says, else
    /// ImageNet's, with a warning
    #[serde(deserialize_with = "nullable")]
    pub normalization: Option<Normalization>,
    /// What runs it. @default "auto"
    pub engine: EngineChoice,
    /// The library of onnxruntime. @default `$RKD_ONNXRUNTIME`, else that of an installed onnxruntime-node
    #[serde(deserialize_with = "nullable")]
    pub onnxruntime: Option<PathBuf>,
}

impl OnnxOptions {
    /// The same with nothing left open, and full sentences about what had to be assumed.
    ///
    /// # Errors
    /// Those of [`Graph::read`], [`input_of`], [`output_of`]; `ERR_INVALID_OPTION` for a size that the graph does not take,
    /// a normalisation beside one in the graph, a tensor or library that is not there; `ERR_INVALID_ARTEFACT` for a graph
    /// that no engine here runs.
    pub fn resolve(&self, path: &Path) -> Result<(OnnxOptions, Vec<String>)> {
        let graph = Graph::read(path)?;
        let Judged { output, image_size, normalization, engine, onnxruntime, warnings, .. } = self.judge(&graph)?;
        let (output, pooling) = (Some(output.name), Some(output.pooling));
        let image_size = Some(image_size);
        Ok((OnnxOptions { output, pooling, image_size, normalization, engine, onnxruntime }, warnings))
    }

    /// What `graph` takes and gives, and who runs it.
    fn judge(&self, graph: &Graph) -> Result<Judged> {
        let input = input_of(graph)?;
        let output = output_of(graph, self.output.as_deref(), self.pooling)?;
        let (engine, onnxruntime) = choose(graph, &output.name, self.engine, self.onnxruntime.as_deref())?;
        let mut warnings = Vec::new();
        let beside = Preprocessor::beside(&graph.path)?;
        let normalization = match (&self.normalization, &beside) {
            (None, Some(beside)) if input.scale == Scale::Normalized => beside.normalization(input.channels)?,
            (given, _) => given.clone(),
        };
        let normalization = self::normalization(&input, normalization.as_ref(), &mut warnings)?;
        let asked = match (self.image_size, &beside) {
            (None, Some(beside)) if input.size.is_none() => beside.size()?,
            (given, _) => given,
        };
        let image_size = size_of(graph, &input, asked)?;
        Ok(Judged { input, output, image_size, normalization, engine, onnxruntime, warnings })
    }
}

/// A graph and options together, with nothing left open.
struct Judged {
    input: InputForm,
    output: OutputForm,
    image_size: usize,
    /// Nothing where the graph normalises.
    normalization: Option<Normalization>,
    engine: EngineChoice,
    onnxruntime: Option<PathBuf>,
    /// What had to be assumed.
    warnings: Vec<String>,
}

/// A model that is loaded and judged.
pub struct OnnxModel {
    graph: Graph,
    engine: Engine,
    input: InputForm,
    output: OutputForm,
    spec: InputSpec,
    length: usize,
    hash: String,
}

/// What was found out, for a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
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
    /// Reads and judges the file, loads it into an engine of `threads` threads, and embeds three images to see that it runs and tells
    /// them apart.
    ///
    /// # Errors
    /// Those of [`OnnxOptions::resolve`]; of the engine; `ERR_INVALID_ARTEFACT` for an output that is the same for every
    /// image or a single number.
    pub fn open(path: &Path, options: &OnnxOptions, threads: usize) -> Result<OnnxModel> {
        let graph = Graph::read(path)?;
        let Judged { input, output, image_size, normalization, engine, onnxruntime, .. } = options.judge(&graph)?;
        let normalization = normalization.unwrap_or_else(|| own_normalization(&input));
        let about = format!("{} {image_size} {normalization:?} {output:?} {}", graph.hash, engine.name());
        let hash = blake3::hash(about.as_bytes()).to_hex().to_string();
        let engine = Engine::load(&graph, &output.name, engine, onnxruntime.as_deref(), threads)?;
        let spec = InputSpec { kind: InputKind::Images, image_size, channels: input.channels, normalization };
        let mut model = OnnxModel { graph, engine, input, output, spec, length: 0, hash };
        model.length = model.try_out()?.1;
        Ok(model)
    }

    /// The images it takes: pixels normalised like this are what [`embed`](OnnxModel::embed) wants.
    pub fn input(&self) -> &InputSpec {
        &self.spec
    }

    /// Length of the embedding.
    pub fn length(&self) -> usize {
        self.length
    }

    /// What runs it, with the library where it is one.
    pub fn engine(&self) -> String {
        self.engine.name()
    }

    /// Numbers among the weights.
    pub fn parameters(&self) -> usize {
        self.graph.parameters
    }

    /// A hash of the file and of all that decides what it makes of an image.
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The name of the file, without its ending.
    pub fn name(&self) -> String {
        self.graph.path.file_stem().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Numbers of one image.
    fn image_length(&self) -> usize {
        self.spec.image_size * self.spec.image_size * self.spec.channels
    }

    /// The embeddings `[n, d]` of `images`, normalised, `[n, h, w, c]`.
    ///
    /// # Errors
    /// `ERR_NON_FINITE` where an embedding is no finite number, `ERR_INVALID_ARTEFACT` where the graph gives something else
    /// than one vector an image.
    pub fn embed(&self, images: &[f32]) -> Result<HostTensor> {
        let all = self.embed_any(images)?;
        match all.data.iter().position(|value| !value.is_finite()) {
            None => Ok(all),
            Some(place) => Err(Error::new(Code::NonFinite, "the model's embedding is not a finite number")
                .with_subject(self.graph.path.display().to_string())
                .with_values("finite numbers", all.data[place].to_string())
                .with_advice("check the normalisation; a float16 export may overflow: export float32")),
        }
    }

    /// The same, whether they are finite numbers or not.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` as of [`embed`](OnnxModel::embed).
    pub fn embed_any(&self, images: &[f32]) -> Result<HostTensor> {
        let n = images.len() / self.image_length();
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
            let vectors = self.vectors(self.engine.run(&self.input, self.pixels(&filled), self.shape(rows))?, rows)?;
            all.shape[1] = vectors.shape[1];
            all.data.extend_from_slice(&vectors.data[..count * vectors.shape[1]]);
        }
        Ok(all)
    }

    /// Embeds three different images. Gives the mean time of one in milliseconds and the embedding's length.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` where the embeddings do not tell images apart.
    fn try_out(&self) -> Result<(f64, usize)> {
        let length = self.image_length();
        // A ramp, its mirror image and a chessboard.
        let ramp = (0..length).map(|i| (i % 251) as u8);
        let chessboard = (0..length).map(|i| if i / 8 % 2 == 0 { 0 } else { 255 });
        let bytes: Vec<u8> = ramp.clone().chain(ramp.rev()).chain(chessboard).collect();
        let mut images = vec![0.0; bytes.len()];
        self.spec.normalization.apply(&bytes, &mut images);
        let start = Instant::now();
        let vectors = self.embed(&images)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3 / 3.0;
        let rows: Vec<&[f32]> = vectors.data.chunks(vectors.shape[1]).collect();
        let useless = |what: &str, received: String| {
            Error::new(Code::InvalidArtefact, what)
                .with_subject(format!("{}, {}", self.graph.path.display(), self.output.name))
                .with_values("an embedding that tells images apart", received)
                .with_advice("name another tensor (--teacher-output NAME); rkd doctor teacher FILE lists them")
        };
        if relative(rows[0], rows[1]).max(relative(rows[0], rows[2])) <= ROUNDING {
            return Err(useless("this output does not depend on the image", "one vector for three images".into()));
        }
        if rows[0].len() > 1 && rows.iter().any(|row| row.iter().all(|value| value == &row[0])) {
            return Err(useless("this output is no embedding", format!("{} equal numbers", rows[0].len())));
        }
        let alone = self.embed(&images[..length])?;
        let change = relative(rows[0], &alone.data);
        if change > STEADY {
            return Err(Error::new(Code::InvalidArtefact, "the embedding of an image is not always the same")
                .with_subject(format!("{}, {}", self.graph.path.display(), self.output.name))
                .with_values(
                    "the same vector for an image alone and beside others",
                    format!("one that is {:.0} % of its length away", 100.0 * change),
                )
                .with_advice("export the model for use, in PyTorch after model.eval(): dropout and batch statistics are off there"));
        }
        Ok((milliseconds, vectors.shape[1]))
    }

    /// What was found out. `warnings` are those of [`OnnxOptions::resolve`].
    pub fn report(&self, warnings: Vec<String>) -> Result<OnnxReport> {
        let (milliseconds_per_image, embedding) = self.try_out()?;
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
            image_size: self.spec.image_size,
            channels: self.spec.channels,
            output: format!("{}{}", self.output.name, pooling_in_words(self.output.pooling)),
            embedding,
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
                let Normalization { mean, std } = &self.spec.normalization;
                format!("floats, {layout}, minus the mean {mean:?} over the deviation {std:?}")
            }
        }
    }

    fn shape(&self, n: usize) -> [usize; 4] {
        let (side, c) = (self.spec.image_size, self.spec.channels);
        match self.input.layout {
            Layout::ChannelsFirst => [n, c, side, side],
            Layout::ChannelsLast => [n, side, side, c],
        }
    }

    /// Images `[n, h, w, c]` as the graph takes them.
    fn pixels(&self, images: &[f32]) -> Pixels {
        let (c, p) = (self.spec.channels, self.spec.image_size * self.spec.image_size);
        let ordered: Vec<f32> = match self.input.layout {
            Layout::ChannelsLast => images.to_vec(),
            Layout::ChannelsFirst => channels_first(images, p, c),
        };
        match self.input.number {
            Number::Byte => Pixels::Bytes(ordered.into_iter().map(|value| value.round() as u8).collect()),
            _ => Pixels::Floats(ordered),
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

fn size_of(graph: &Graph, input: &InputForm, asked: Option<usize>) -> Result<usize> {
    let too_large = |what: &str, most: usize, received: usize| {
        Error::new(Code::InvalidArtefact, format!("the graph fixes {what} that cannot be used"))
            .with_subject(graph.path.display().to_string())
            .with_values(format!("1 to {most}"), received.to_string())
            .with_advice("export the model with dynamic axes, or for smaller images")
    };
    if let Some(batch) = input.batch.filter(|batch| !(1..=LARGEST_BATCH).contains(batch)) {
        return Err(too_large("a number of images at once", LARGEST_BATCH, batch));
    }
    match (input.size, asked) {
        (Some(fixed), _) if !(1..=LARGEST_SIZE).contains(&fixed) => {
            Err(too_large("a size of images, in pixels,", LARGEST_SIZE, fixed))
        }
        (Some(fixed), Some(asked)) if fixed != asked => {
            Err(Error::new(Code::InvalidOption, "the model takes images of another size")
                .with_subject("teacher.onnx.imageSize")
                .with_values(format!("{fixed}, which the graph fixes"), asked.to_string())
                .with_advice("leave it out, or export the model with dynamic axes"))
        }
        (fixed, asked) => Ok(fixed.or(asked).unwrap_or(USUAL_SIZE)),
    }
}

/// How far two vectors are apart, of the length of the longer one.
fn relative(a: &[f32], b: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let wide = |values: &[f32]| norm(&mut values.iter().map(|&value| f64::from(value)));
    let apart = norm(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    apart / wide(a).max(wide(b)).max(f64::MIN_POSITIVE)
}

/// The normalisation outside the graph; nothing where the graph does it.
fn normalization(
    input: &InputForm,
    given: Option<&Normalization>,
    warnings: &mut Vec<String>,
) -> Result<Option<Normalization>> {
    match (given, input.scale) {
        (Some(_), Scale::Raw | Scale::Unit) => {
            Err(Error::new(Code::InvalidOption, "the model normalises its images itself")
                .with_subject("teacher.onnx.normalization")
                .with_values("nothing", "a mean and a deviation")
                .with_advice("leave it out"))
        }
        (Some(given), Scale::Normalized) if !given.fits(input.channels) => {
            Err(Error::new(Code::InvalidOption, "images cannot be normalised like this")
                .with_subject("teacher.onnx.normalization")
                .with_values(
                    format!("a mean and a positive std for each of {} channels", input.channels),
                    format!("mean {:?}, std {:?}", given.mean, given.std),
                ))
        }
        (Some(given), Scale::Normalized) if !given.is_of_unit_pixels() => {
            Err(Error::new(Code::InvalidOption, "the mean is not one of pixels from 0 to 1")
                .with_subject("teacher.onnx.normalization")
                .with_values("a mean from 0 to 1 for each channel", format!("{:?}", given.mean))
                .with_advice("of pixels from 0 to 255 divide mean and deviation by 255"))
        }
        (Some(given), Scale::Normalized) => Ok(Some(given.clone())),
        (None, Scale::Normalized) => {
            let normalization = imagenet(input.channels);
            warnings.push(format!(
                "The teacher does not say how its images are normalised, so ImageNet's mean {:?} and deviation {:?} are \
                 taken; where it was trained with others, give them (--teacher-mean, --teacher-std).",
                normalization.mean, normalization.std
            ));
            Ok(Some(normalization))
        }
        (None, Scale::Raw | Scale::Unit) => Ok(None),
    }
}

/// ImageNet's, of grey images its mean over the colours.
fn imagenet(channels: usize) -> Normalization {
    let Normalization { mean, std } = Normalization::imagenet();
    let grey = |values: Vec<f32>| match channels {
        1 => vec![values.iter().sum::<f32>() / 3.0],
        _ => values,
    };
    Normalization { mean: grey(mean), std: grey(std) }
}

/// What makes of bytes what a graph takes that normalises by itself.
fn own_normalization(input: &InputForm) -> Normalization {
    let std = if input.scale == Scale::Raw { 1.0 / 255.0 } else { 1.0 };
    Normalization { mean: vec![0.0; input.channels], std: vec![std; input.channels] }
}

fn pooling_in_words(pooling: Pooling) -> &'static str {
    match pooling {
        Pooling::None => "",
        Pooling::ClassToken => ", its class token",
        Pooling::MeanToken => ", the mean of its tokens",
        Pooling::MeanPixel => ", the mean over its pixels",
    }
}
