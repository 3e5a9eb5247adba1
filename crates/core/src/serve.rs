//! A finished model that embeds images as they come: what `loadModel` holds.
//!
//! ```text
//! file, bytes or pixels -> Decoder -> normalised pixels [n, h, w, c] -> one forward pass -> rows [n, d]
//! ```
//! The pixels are those that [`embed`](crate::train::embed()) makes of the same file, and a row does not depend on the images
//! that happen to be in its pass: both give the same bits.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::data::{Decoder, InputKind, InputSpec, Normalization, read_image};
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Cpu, Inference};
use crate::onnx::{OnnxModel, OnnxOptions};
use crate::tensor::Feature;
use crate::train::Host;
use crate::train::evaluate::StoredNetwork;

/// What is loaded, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ServePlan {
    /// A `model.safetensors`, or an ONNX model.
    pub model: PathBuf,
    /// How an ONNX model is read.
    pub onnx: Option<OnnxOptions>,
    /// CPU threads; 0: all cores.
    pub threads: usize,
    /// Most images of one forward pass.
    pub batch: usize,
    /// What had to be assumed, in full sentences.
    pub warnings: Vec<String>,
}

/// What a loaded model is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub struct LoadedModel {
    /// The file it was read from.
    pub file: String,
    /// What runs it: `"rkd"`, `"rten"` or `"onnxruntime (library)"`.
    pub engine: String,
    /// A hash of all that decides what it says of an image: `rkd embed` notes it beside the embeddings.
    pub hash: String,
    /// Length of an embedding.
    pub dimension: usize,
    /// Side of the square that every image becomes, in pixels.
    pub image_size: usize,
    /// 1 (grey) or 3 (RGB): what every image becomes.
    pub channels: usize,
    /// How its pixels are normalised.
    pub normalization: Normalization,
    /// Numbers that were trained; of an ONNX model all among its weights.
    pub parameters: usize,
    /// CPU threads.
    pub threads: usize,
    /// Most images of one forward pass.
    pub batch: usize,
    /// What had to be assumed of an ONNX model, in full sentences.
    pub warnings: Vec<String>,
}

/// An image that is to be embedded.
#[derive(Clone, Debug, PartialEq)]
pub enum Image {
    /// A file.
    File(PathBuf),
    /// The content of a file.
    Encoded(Vec<u8>),
    /// Bytes `[height, width, channels]`, of 1 (grey), 3 (RGB) or 4 channels (RGBA).
    Pixels {
        /// Row by row.
        data: Vec<u8>,
        /// Pixels of a row.
        width: usize,
        /// Rows.
        height: usize,
        /// Bytes of a pixel.
        channels: usize,
    },
}

/// A model in memory. Its weights are read once; embedding changes nothing in it.
pub struct ServedModel {
    network: Network,
    input: InputSpec,
    host: Host,
    about: LoadedModel,
    /// One for each thread that decodes: they keep their buffers.
    decoders: Mutex<Vec<Decoder>>,
}

enum Network {
    Own { network: Box<Inference<Cpu>>, backend: Cpu },
    Onnx(Box<OnnxModel>),
}

impl ServedModel {
    /// Reads the model of `plan`.
    ///
    /// # Errors
    /// Those of reading and judging it.
    pub fn open(plan: &ServePlan) -> Result<ServedModel> {
        let host = Host::new(plan.threads);
        let threads = host.team().threads();
        let (network, input, engine, hash, dimension, parameters) = match &plan.onnx {
            Some(options) => {
                let model = OnnxModel::open(&plan.model, options, threads)?;
                let (input, engine, hash) = (model.input().clone(), model.engine(), model.hash().to_string());
                let (length, parameters) = (model.length(), model.parameters());
                (Network::Onnx(Box::new(model)), input, engine, hash, length, parameters)
            }
            None => {
                let backend = host.cpu();
                let (StoredNetwork { mut network, card }, hash) = StoredNetwork::load_hashed(&plan.model, &backend)?;
                network.keep_taps(&[]);
                let (length, parameters) = (network.embedding_size(), network.parameter_count());
                let network = Network::Own { network: Box::new(network), backend };
                (network, card.input(), "rkd".to_string(), hash, length, parameters)
            }
        };
        if input.kind == InputKind::Vectors {
            return Err(Error::new(
                Code::InvalidArtefact,
                "a loaded model embeds images, and this one makes vectors shorter",
            )
            .with_subject(path_text(&plan.model))
            .with_values("a model of images", format!("a model of vectors of {} numbers", input.channels))
            .with_advice("embed() and rkd embed give it a file of vectors"));
        }
        let about = LoadedModel {
            file: plan.model.display().to_string(),
            engine,
            hash,
            dimension,
            image_size: input.image_size,
            channels: input.channels,
            normalization: input.normalization.clone(),
            parameters,
            threads,
            batch: plan.batch,
            warnings: plan.warnings.clone(),
        };
        Ok(ServedModel { network, input, host, about, decoders: Mutex::default() })
    }

    /// What it is.
    pub fn about(&self) -> &LoadedModel {
        &self.about
    }

    /// The embedding of each image, or why it has none, in one forward pass.
    ///
    /// # Errors
    /// Those of the pass itself. Of a single image: `ERR_NOT_FOUND`, `ERR_PERMISSION_DENIED` and `ERR_IO` of a file,
    /// `ERR_INVALID_DATA` for what is no image or damaged, `ERR_NON_FINITE` for an embedding that is not finite.
    pub fn embed(&self, images: &[Image]) -> Result<Vec<Result<Vec<f32>>>> {
        let InputSpec { image_size, channels, .. } = self.input;
        let mut pixels: Vec<Result<Vec<f32>>> = images.iter().map(|_| Ok(Vec::new())).collect();
        let (input, decoders) = (&self.input, &self.decoders);
        self.host.team().for_each_chunk(&mut pixels, 1, |place, pixels| {
            pixels[0] = pixels_of(&images[place], input, decoders);
        });
        let usable: Vec<&Vec<f32>> = pixels.iter().flatten().collect();
        let count = usable.len();
        let batch: Vec<f32> = match &usable[..] {
            [] => return Ok(pixels),
            [one] => (*one).clone(),
            several => several.iter().flat_map(|pixels| pixels.iter().copied()).collect(),
        };
        let values = self.forward(&batch, [count, image_size, image_size, channels])?;
        let mut rows = values.chunks_exact(self.about.dimension);
        Ok(pixels
            .into_iter()
            .map(|pixels| {
                pixels.and_then(|_| match rows.next() {
                    Some(row) => finite(row),
                    None => Err(Error::new(Code::Internal, "the pass gave fewer rows than images")),
                })
            })
            .collect())
    }

    fn forward(&self, pixels: &[f32], shape: [usize; 4]) -> Result<Vec<f32>> {
        match &self.network {
            Network::Own { network, backend } => {
                let mut features = network.forward(&backend.from_f32(pixels, &shape)?)?;
                let embedding = features.remove(&Feature::Embedding);
                backend.to_f32(&embedding.ok_or_else(|| Error::new(Code::Internal, "the network gave no embedding"))?)
            }
            Network::Onnx(model) => Ok(model.embed_any(pixels)?.data),
        }
    }
}

/// The normalised pixels of an image, `[h, w, c]`.
fn pixels_of(image: &Image, input: &InputSpec, decoders: &Mutex<Vec<Decoder>>) -> Result<Vec<f32>> {
    let InputSpec { image_size, channels, normalization, .. } = input;
    let decoder = decoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut decoder = decoder.unwrap_or_else(|| Decoder::new(*image_size, *channels));
    let mut bytes = vec![0; image_size * image_size * channels];
    // A decoder that panics on a strange file must not take the other images with it.
    let decoded = catch_unwind(AssertUnwindSafe(|| decode(&mut decoder, image, &mut bytes)));
    let decoded = decoded.unwrap_or_else(|_| Err(unusable(image, "made the decoder fail")));
    decoders.lock().unwrap_or_else(PoisonError::into_inner).push(decoder);
    decoded?;
    let mut pixels = vec![0.0; bytes.len()];
    normalization.apply(&bytes, &mut pixels);
    Ok(pixels)
}

fn decode(decoder: &mut Decoder, image: &Image, out: &mut [u8]) -> Result<()> {
    let why = |reason: String| unusable(image, &reason);
    match image {
        Image::File(path) => {
            let about = fs::metadata(path).map_err(|e| Error::io("reading the image", path, e))?;
            if !about.is_file() {
                // What is no file may not be opened at all: a pipe without a writer would wait for ever.
                return Err(why(if about.is_dir() { "is a folder" } else { "is a device or a pipe" }.into()));
            }
            let bytes = read_image(path).map_err(why)?;
            decoder.decode(&bytes, out).map_err(why)
        }
        Image::Encoded(bytes) => decoder.decode(bytes, out).map_err(why),
        Image::Pixels { data, width, height, channels } => {
            decoder.place_pixels(data, [*width, *height, *channels], out).map_err(why)
        }
    }
}

/// The error for an image that `reason`, a clause such as `is empty`, is said of.
fn unusable(image: &Image, reason: &str) -> Error {
    let error = Error::new(Code::InvalidData, format!("this image cannot be embedded: it {reason}"));
    match image {
        Image::File(path) => error.with_subject(path_text(path)),
        _ => error,
    }
}

fn path_text(path: &Path) -> String {
    path.display().to_string()
}

fn finite(row: &[f32]) -> Result<Vec<f32>> {
    let Some(value) = row.iter().find(|value| !value.is_finite()) else { return Ok(row.to_vec()) };
    Err(Error::new(Code::NonFinite, "the embedding of this image is not finite")
        .with_values("finite numbers", value.to_string())
        .with_advice(
            "the model's training has diverged, or its numbers are too large; use an earlier or another model",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_pixels_are_those_of_the_file_that_holds_them() {
        let (width, height) = (7usize, 5usize);
        let grey: Vec<u8> = (0..width * height).map(|i| (i * 7 % 256) as u8).collect();
        let mut file = format!("P5 {width} {height} 255\n").into_bytes();
        file.extend_from_slice(&grey);
        let rgb: Vec<u8> = grey.iter().flat_map(|&value| [value; 3]).collect();
        let rgba: Vec<u8> = grey.iter().flat_map(|&value| [value, value, value, 255]).collect();
        for channels in [1, 3] {
            let mut decoder = Decoder::new(4, channels);
            let mut made = |image: &Image| {
                let mut out = vec![0; 16 * channels];
                decode(&mut decoder, image, &mut out).map(|()| out)
            };
            let expected = made(&Image::Encoded(file.clone())).unwrap();
            for (data, channels) in [(&grey, 1), (&rgb, 3), (&rgba, 4)] {
                let image = Image::Pixels { data: data.clone(), width, height, channels };
                assert_eq!(made(&image).unwrap(), expected, "{channels}");
            }
        }
    }

    #[test]
    fn pixels_of_another_form_are_told() {
        let mut decoder = Decoder::new(4, 3);
        let mut text = |length: usize, width: usize, height: usize, channels: usize| {
            let image = Image::Pixels { data: vec![0; length], width, height, channels };
            decode(&mut decoder, &image, &mut [0; 48]).unwrap_err().to_string()
        };
        assert!(text(8, 2, 2, 2).contains("it has 2 channels"));
        assert!(text(11, 2, 2, 3).contains("it has 11 bytes where 2 x 2 pixels of 3 channels are 12"));
        assert!(text(0, 0, 2, 3).contains("it has no pixels"));
    }
}
