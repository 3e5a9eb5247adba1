//! `preprocessor_config.json`, which Hugging Face's exports have beside the model or in the folder above: which images go in.
//!
//! Bytes `v` become `(factor * v - offset - mean) / std`, as transformers has it. That is a [`Normalization`] of pixels from
//! 0 to 1 by `(mean + offset) / (255 factor)` and `std / (255 factor)`. What cannot be done here, and a value of another type, is
//! refused by its key: images that are made otherwise give embeddings that mean nothing.
//!
//! | key | where it is not said |
//! |---|---|
//! | `do_rescale`, `rescale_factor`, `rescale_offset` | true, 1/255, false |
//! | `do_normalize`, `image_mean`, `image_std` | whether there is a mean |
//! | `do_center_crop`, `crop_size` | true, none |
//! | `do_resize`, `size` | true, none |
//! | `do_flip_channel_order` | false |

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::input::LARGEST_SIZE;
use crate::data::Normalization;
use crate::error::{Code, Error, Result};
use crate::input::show;

const NAME: &str = "preprocessor_config.json";

/// What the file says.
pub(super) struct Preprocessor {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl Preprocessor {
    /// The file beside the model `path`, or in the folder above where that one is called `onnx`, if there is one.
    ///
    /// # Errors
    /// Those of reading; `ERR_INVALID_ARTEFACT` for a file that is no JSON object, or wants channels in another order.
    pub fn beside(path: &Path) -> Result<Option<Preprocessor>> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let above = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == "onnx"));
        for place in [Some(folder), above].into_iter().flatten().map(|folder| folder.join(NAME)) {
            match std::fs::read_to_string(&place) {
                Ok(text) => return Preprocessor::read(place, &text).map(Some),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::io("reading how images are prepared", &place, e)),
            }
        }
        Ok(None)
    }

    fn read(path: PathBuf, text: &str) -> Result<Preprocessor> {
        let object = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|e| {
            Error::new(Code::InvalidArtefact, format!("how images are prepared cannot be read: {e}"))
                .with_subject(path.display().to_string())
                .with_values("a JSON object", "this text")
                .with_advice(INSTEAD)
        })?;
        let preprocessor = Preprocessor { path, keys: object };
        if preprocessor.flag("do_flip_channel_order")? == Some(true) {
            let expected = "false, or nothing: images go in as RGB";
            return Err(preprocessor
                .refuse("do_flip_channel_order", expected)
                .with_advice("export the model with the flip inside of the graph, and remove the key"));
        }
        Ok(preprocessor)
    }

    /// How pixels of `channels` are normalised; nothing where it is not said.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` for a value that cannot be used.
    pub fn normalization(&self, channels: usize) -> Result<Option<Normalization>> {
        let rescales = self.flag("do_rescale")? != Some(false);
        let factor = match self.value("rescale_factor").filter(|_| rescales) {
            None if rescales => 1.0 / 255.0,
            None => 1.0,
            Some(value) => value
                .as_f64()
                .filter(|&factor| factor > 0.0)
                .ok_or_else(|| self.refuse("rescale_factor", "a number greater than 0"))?,
        };
        let offset = if rescales && self.flag("rescale_offset")? == Some(true) { 1.0 } else { 0.0 };
        let given = match self.flag("do_normalize")? {
            Some(false) => Some((vec![0.0; channels], vec![1.0; channels])),
            _ => self.numbers("image_mean", channels)?.zip(self.numbers("image_std", channels)?),
        };
        let Some((mean, std)) = given else { return Ok(None) };
        if std.iter().any(|&std| std <= 0.0) {
            return Err(self.refuse("image_std", "numbers greater than 0"));
        }
        let unit = 255.0 * factor;
        let normalization = Normalization {
            mean: mean.iter().map(|mean| ((mean + offset) / unit) as f32).collect(),
            std: std.iter().map(|std| (std / unit) as f32).collect(),
        };
        if !normalization.is_of_unit_pixels() {
            return Err(self.refuse("image_mean", format!("a mean of bytes times {factor}, from 0 to {unit}")));
        }
        Ok(Some(normalization))
    }

    /// The side of what goes in: the crop's, else that of the resized image; nothing where it is not said.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` for images that are not square, or of a size that is not made here.
    pub fn size(&self) -> Result<Option<usize>> {
        let side = |does: &str, key: &str| match self.flag(does)? {
            Some(false) => Ok(None),
            _ => self.side(key),
        };
        Ok(side("do_center_crop", "crop_size")?.or(side("do_resize", "size")?))
    }

    fn side(&self, key: &str) -> Result<Option<usize>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let number = match value {
            Value::Object(sides) => match (sides.get("height").zip(sides.get("width")), sides.get("shortest_edge")) {
                (Some((height, width)), _) => equal(height, width),
                (None, shortest) => shortest,
            },
            Value::Array(sides) => {
                if let [height, width] = &sides[..] {
                    equal(height, width)
                } else {
                    None
                }
            }
            number => Some(number),
        };
        let side = number.and_then(Value::as_u64).map(|side| usize::try_from(side).unwrap_or(usize::MAX));
        match side.filter(|side| (1..=LARGEST_SIZE).contains(side)) {
            Some(side) => Ok(Some(side)),
            None => Err(self.refuse(
                key,
                format!("one side of 1 to {LARGEST_SIZE} pixels, or a height and a width that are equal"),
            )),
        }
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        let flag = |value: &Value| value.as_bool().ok_or_else(|| self.refuse(key, "true or false"));
        self.value(key).map(flag).transpose()
    }

    /// A number for each channel; one number is that of all.
    fn numbers(&self, key: &str, channels: usize) -> Result<Option<Vec<f64>>> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let numbers: Option<Vec<f64>> = match value {
            Value::Array(items) => items.iter().map(Value::as_f64).collect(),
            number => number.as_f64().map(|number| vec![number; channels]),
        };
        match numbers.filter(|numbers| numbers.len() == channels) {
            Some(numbers) => Ok(Some(numbers)),
            None => Err(self.refuse(key, format!("a number, or a list of {channels}, one for each channel"))),
        }
    }

    /// Null says nothing.
    fn value(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn refuse(&self, key: &str, expected: impl Into<String>) -> Error {
        let received = match self.value(key) {
            Some(value @ (Value::Array(_) | Value::Object(_))) => value.to_string(),
            value => value.map_or_else(|| "nothing".into(), show),
        };
        Error::new(Code::InvalidArtefact, format!("{key} cannot be used"))
            .with_subject(self.path.display().to_string())
            .with_values(expected, received.chars().take(LONGEST_SHOWN).collect::<String>())
            .with_advice(INSTEAD)
    }
}

/// Letters of a value that an error shows.
const LONGEST_SHOWN: usize = 80;

/// The side of a square.
fn equal<'v>(height: &'v Value, width: &Value) -> Option<&'v Value> {
    (height == width).then_some(height)
}

const INSTEAD: &str = "correct it, or remove it and say the size and the normalisation yourself (--teacher-image-size, \
                       --teacher-mean, --teacher-std)";
