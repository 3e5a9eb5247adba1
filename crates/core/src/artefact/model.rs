//! `model.safetensors`: a network's parameters under torchvision's names, with its description beside them.
//!
//! The JSON document of the [tensor file](super::tensors) is the [`ModelCard`]. A file without it, from another program,
//! has weights but not the shape of its network: [`Weights`](super::weights::Weights) reads those.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::tensors::TensorFile;
use crate::backbones::{BackboneSpec, define};
use crate::data::{DataOutline, InputKind, InputSpec, Normalization};
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Network};
use crate::tensor::HostTensor;

/// The form of the card; another number is refused.
const VERSION: u32 = 1;

/// What a model is beside its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelCard {
    /// The network, with the size and channels of the images it takes.
    pub backbone: BackboneSpec,
    /// What it embeds: pictures, or stored vectors of `backbone.inChannels` numbers.
    #[serde(default, skip_serializing_if = "is_images")]
    pub input: InputKind,
    /// The way it wants its pixels, or the numbers of its vectors.
    pub normalization: Normalization,
    /// The names of the classes that its logits stand for, in their order, where it has a classifier.
    pub classes: Option<Vec<String>>,
    /// Lengths of the prefixes of its embedding that were trained to be embeddings too; where the network normalises,
    /// each divided by its own norm.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<usize>,
    /// The run that made it.
    pub origin: Origin,
}

/// What a card without the field says.
fn is_images(kind: &InputKind) -> bool {
    *kind == InputKind::Images
}

/// The run that made a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The version of rkd.
    pub rkd: String,
    /// The seed.
    pub seed: u64,
    /// The data, and their parts.
    #[serde(default)]
    pub data: Option<DataOutline>,
    /// The hashes of its teachers in a distillation, in the plan's order: of a network's model, [`Model::hash`].
    #[serde(default)]
    pub teachers: Vec<String>,
}

/// The card as it is written.
#[derive(Serialize)]
struct Document<'a> {
    card: u32,
    #[serde(flatten)]
    model: &'a ModelCard,
}

impl ModelCard {
    /// The images that the network takes.
    pub fn input(&self) -> InputSpec {
        InputSpec {
            kind: self.input,
            image_size: self.backbone.image_size,
            channels: self.backbone.in_channels,
            normalization: self.normalization.clone(),
        }
    }

    /// The card as it is written into files.
    pub fn document(&self) -> Result<Value> {
        to_json(&Document { card: VERSION, model: self })
    }

    /// The card in the document of a tensor file.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` for a document that is no card of this form.
    pub fn read(document: &Value) -> Result<ModelCard> {
        if document["card"].is_null() {
            return Err(Error::new(Code::InvalidArtefact, "the file does not say which network it belongs to")
                .with_values("a model written by this version of rkd", "a safetensors file of another program")
                .with_advice("give the output folder or the model.safetensors of a run of train or distill"));
        }
        let advice = "write the file again with this version of rkd";
        if document["card"] != VERSION {
            return Err(Error::new(Code::InvalidArtefact, "the model has a card of another form")
                .with_values(format!("form {VERSION}"), document["card"].to_string())
                .with_advice(advice));
        }
        let card = ModelCard::deserialize(document).map_err(|e| {
            Error::new(Code::InvalidArtefact, format!("the description of the network is not understood: {e}"))
                .with_advice(advice)
        })?;
        check_normalization(&card.normalization, card.backbone.in_channels)?;
        Ok(card)
    }
}

/// What the file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// What it is.
    pub card: ModelCard,
    /// The parameters and running statistics: torchvision's names and layouts, float32.
    pub tensors: BTreeMap<String, HostTensor>,
}

impl Model {
    /// Writes the file, whole or not at all. The same model gives the same bytes.
    pub fn save(self, path: &Path) -> Result<()> {
        let document = self.card.document()?;
        TensorFile { document, tensors: self.tensors }.save(path)
    }

    /// Reads the file. A damaged file, another kind of file and a card that is not understood are errors.
    pub fn load(path: &Path) -> Result<Model> {
        let TensorFile { document, tensors } = TensorFile::load(path)?;
        let card = ModelCard::read(&document).map_err(|error| error.with_subject(path.display().to_string()))?;
        Ok(Model { card, tensors })
    }

    /// The network on `backend`.
    ///
    /// # Errors
    /// `ERR_INVALID_ARTEFACT` that lists the tensors which do not fit the card's network.
    pub fn network<B: Backend>(&self, backend: B) -> Result<Network<B>> {
        Network::from_tensors(backend, define(&self.card.backbone)?, &self.tensors)
    }

    /// A hash of all that decides what the model says of an image: network, input, classes, numbers. It does not depend on
    /// where the file lies or which run made it.
    pub fn hash(&self) -> Result<String> {
        let ModelCard { backbone, normalization, classes, .. } = &self.card;
        let mut hasher = blake3::Hasher::new();
        hasher.update(to_json(&(backbone, normalization, classes))?.to_string().as_bytes());
        for (name, tensor) in &self.tensors {
            hasher.update(format!("\n{name} {:?}\n", tensor.shape).as_bytes());
            let bytes: Vec<u8> = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
        Ok(hasher.finalize().to_hex()[..32].to_string())
    }
}

/// Checks that images of `channels` can be normalised as a file says.
fn check_normalization(normalization: &Normalization, channels: usize) -> Result<()> {
    if normalization.fits(channels) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidArtefact, "no image can be normalised as the file says")
        .with_values(
            format!("a mean and a positive std for each of {channels} channels"),
            format!("mean {:?}, std {:?}", normalization.mean, normalization.std),
        )
        .with_advice("the file was changed by hand; write it again"))
}

fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::new(Code::Internal, format!("a model has no JSON form: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::Stem;
    use crate::backbones::build;
    use crate::nn::Portable;

    fn spec() -> BackboneSpec {
        BackboneSpec {
            kind: "conv4".into(),
            width: 4,
            hidden: Vec::new(),
            stem: Stem::Small,
            embedding: Some(3),
            normalize: true,
            in_channels: 1,
            image_size: 16,
            classes: None,
        }
    }

    fn model() -> Model {
        let card = ModelCard {
            backbone: spec(),
            input: InputKind::Images,
            normalization: Normalization { mean: vec![0.1], std: vec![0.3] },
            classes: None,
            prefixes: Vec::new(),
            origin: Origin { rkd: "0.1.0".into(), seed: 7, ..Origin::default() },
        };
        Model { card, tensors: build(Portable::cpu_f32(), &spec(), 7).unwrap().tensors().unwrap() }
    }

    #[test]
    fn a_model_is_saved_and_loaded_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        for path in &paths {
            model().save(path).unwrap();
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        let loaded = Model::load(&paths[0]).unwrap();
        assert_eq!(loaded, model());
        assert_eq!(loaded.network(Portable::cpu_f32()).unwrap().tensors().unwrap(), model().tensors);
        assert_eq!((loaded.card.input().image_size, loaded.card.input().channels), (16, 1));
    }

    #[test]
    fn the_hash_is_of_what_a_model_says_not_of_where_it_comes_from() {
        let hash = model().hash().unwrap();
        let mut other = model();
        other.card.origin.seed = 8;
        assert_eq!(other.hash().unwrap(), hash);
        other.card.normalization.mean[0] = 0.2;
        assert_ne!(other.hash().unwrap(), hash);
        let mut other = model();
        other.tensors.get_mut("fc.bias").unwrap().data[0] += 1.0;
        assert_ne!(other.hash().unwrap(), hash);
    }

    #[test]
    fn weights_of_another_network_are_an_error_that_names_the_tensors() {
        let mut model = model();
        model.card.backbone.embedding = Some(5);
        let text = model.network(Portable::cpu_f32()).unwrap_err().to_string();
        assert!(text.contains("fc.weight [3, 4] instead of [5, 4]"), "{text}");
    }

    #[test]
    fn a_card_of_another_form_is_refused_by_number() {
        let mut document = model().card.document().unwrap();
        document["card"] = 2.into();
        let text = ModelCard::read(&document).unwrap_err().to_string();
        assert!(text.contains("expected form 1, received 2"), "{text}");
    }

    #[test]
    fn a_file_without_description_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        TensorFile::default().save(&path).unwrap();
        assert_eq!(Model::load(&path).unwrap_err().code, Code::InvalidArtefact);
    }
}
