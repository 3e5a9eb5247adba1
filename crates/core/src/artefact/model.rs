//! `model.safetensors`: a network's parameters under torchvision's names, with its description beside them.
//!
//! The JSON document of the [tensor file](super::tensors) has two fields: `backbone`, the [`BackboneSpec`], and `about`,
//! whatever the writer wants to keep (the data's channels, the run that made it). A file without the document, from
//! another program, has weights but not the shape of its network: [`TensorFile::load`] reads it, and
//! [`Network::from_tensors`](crate::nn::Network::from_tensors) takes the description apart from it.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::tensors::TensorFile;
use crate::backbones::BackboneSpec;
use crate::data::Normalization;
use crate::error::{Code, Error, Result};
use crate::tensor::HostTensor;

/// What the file holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The network.
    pub backbone: BackboneSpec,
    /// The writer's own JSON; `null` where there is none.
    pub about: Value,
    /// The parameters and running statistics: torchvision's names and layouts, float32.
    pub tensors: BTreeMap<String, HostTensor>,
}

impl Model {
    /// Writes the file, whole or not at all. The same model gives the same bytes.
    pub fn save(&self, path: &Path) -> Result<()> {
        let backbone = serde_json::to_value(&self.backbone)
            .map_err(|e| Error::new(Code::Internal, format!("a backbone has no JSON form: {e}")))?;
        let document = json!({ "backbone": backbone, "about": self.about });
        TensorFile { document, tensors: self.tensors.clone() }.save(path)
    }

    /// Reads the file. A damaged file, another kind of file and a description that is not understood are errors.
    pub fn load(path: &Path) -> Result<Model> {
        let file = TensorFile::load(path)?;
        Self::decode(file).map_err(|error| error.with_subject(path.display().to_string()))
    }

    fn decode(file: TensorFile) -> Result<Model> {
        let Some(backbone) = file.document.get("backbone") else {
            return Err(Error::new(Code::InvalidArtefact, "the file does not say which network it belongs to")
                .with_values("a model written by rkd", "a safetensors file of another program")
                .with_advice("give the output folder or the model.safetensors of a run of train or distill"));
        };
        let backbone: BackboneSpec = serde_json::from_value(backbone.clone()).map_err(|e| {
            Error::new(Code::InvalidArtefact, format!("the description of the network is not understood: {e}"))
                .with_advice("the file may come from another version of rkd; write it again with this one")
        })?;
        let about = file.document.get("about").cloned().unwrap_or(Value::Null);
        if let Ok(normalization) = serde_json::from_value(about["normalization"].clone()) {
            check_normalization(&normalization, backbone.in_channels)?;
        }
        Ok(Model { backbone, about, tensors: file.tensors })
    }
}

/// Checks that images of `channels` can be normalised as a file says.
pub(super) fn check_normalization(normalization: &Normalization, channels: usize) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::Stem;
    use crate::nn::{Network, Portable};

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

    #[test]
    fn a_network_is_saved_and_loaded_and_the_bytes_repeat() {
        let folder = tempfile::tempdir().unwrap();
        let network = Network::new(Portable::cpu_f32(), &spec(), 7).unwrap();
        let paths = [folder.path().join("a"), folder.path().join("b")];
        for path in &paths {
            network.to_model(json!({"ink": "white"})).unwrap().save(path).unwrap();
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        let (loaded, about) = Network::load(Portable::cpu_f32(), &paths[0]).unwrap();
        assert_eq!(about, json!({"ink": "white"}));
        assert_eq!(loaded.tensors().unwrap(), network.tensors().unwrap());
        assert_eq!(loaded.spec(), network.spec());
    }

    #[test]
    fn weights_of_another_network_are_an_error_that_names_file_and_tensors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let network = Network::new(Portable::cpu_f32(), &spec(), 7).unwrap();
        let mut model = network.to_model(Value::Null).unwrap();
        model.backbone.embedding = Some(5);
        model.save(&path).unwrap();
        let text = Network::load(Portable::cpu_f32(), &path).unwrap_err().to_string();
        assert!(text.contains("fc.weight [3, 4] instead of [5, 4]") && text.contains("model.safetensors"), "{text}");
    }

    #[test]
    fn a_file_without_description_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        TensorFile::default().save(&path).unwrap();
        assert_eq!(Model::load(&path).unwrap_err().code, Code::InvalidArtefact);
    }
}
