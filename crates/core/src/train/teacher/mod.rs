//! The teachers of a distillation: whatever gives features for images, which the losses compare with.
//!
//! A run has a list of them, be it of one. Each has a name, a weight, an input of its own (size, channels, normalisation) and
//! so a view of the images of its own; a way of its own in which it is read; and a cache of what it said. What they say is
//! never mixed: a loss compares with one of them at a time, and the [`objective`](super::objective) averages what it
//! says. Teachers with the same view share its images, in the loader and on disk. What several agree on needs no rule: an
//! image that one of them does not know is left out of training; where the student or the data follow a teacher (the split,
//! the size of the images, a normalisation) they follow the first that has something to say.
//!
//! [`Teacher`] is what one is: a network of rkd, an ONNX model, or stored vectors. A [`TeacherReader`] reads one in
//! one of two ways. `live` sends every batch through the teacher, changed as the student sees it but in the teacher's own
//! size and normalisation. `cached` computes what the losses read once for every training image, and where training mirrors
//! images for the mirrored one too, and keeps it in memory: float32 numbers, [`CACHE_LIMIT`] at most. Other augmentation the
//! teacher then does not see. What was computed once stands in a `store` on disk, which later runs read.

mod network;
mod onnx;
mod reader;
mod spec;
mod store;
mod vectors;

use std::sync::Arc;

pub(super) use reader::embed_teacher;
pub use reader::{TeacherBatch, TeacherReader};
pub use spec::{CACHE_LIMIT, Teacher, TeacherFeatures, TeacherPlan, weights_of};
pub(super) use spec::{numbers_of, shapes_of};

use self::network::NetworkTeacher;
use self::onnx::OnnxTeacher;
use self::vectors::VectorTeacher;
use super::evaluate::open_dataset;
use super::event::Control;
use super::host::Host;
use crate::data::{DataPlan, Dataset, InputSpec, View, describe};
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Feature};
use crate::onnx::OnnxModel;

/// Opens the teacher of `plan`. Of the taps inside a network only those in `read` will be asked for.
///
/// # Errors
/// Those of reading and judging it.
pub(super) fn open<B: Backend>(
    plan: &TeacherPlan,
    backend: &B,
    host: &Host,
    read: &[Feature],
    control: &Control,
) -> Result<Box<dyn Teacher<B>>> {
    let control = &plan.about(control);
    Ok(match (&plan.onnx, &plan.vectors) {
        (None, None) => Box::new(NetworkTeacher::load(&plan.model, backend, read)?),
        (_, Some(options)) => Box::new(VectorTeacher::load(&plan.model, options, backend.clone(), control)?),
        (Some(options), None) => {
            let model = OnnxModel::open(&plan.model, options, host.team().threads())?;
            Box::new(OnnxTeacher::new(model, backend.clone()))
        }
    })
}

/// The images as each teacher wants them, `None` where it needs none. Those that have the size and channels of the student's
/// images, which are `student`, or of another teacher's are the same ones.
pub(super) fn teacher_views(
    data: &DataPlan,
    inputs: impl Iterator<Item = Option<InputSpec>>,
    student: &Arc<Dataset>,
    control: &Control,
) -> Result<Vec<Option<View>>> {
    let mut opened = vec![Arc::clone(student)];
    let view = |input: Option<InputSpec>| {
        let Some(InputSpec { kind, image_size, channels, normalization }) = input else { return Ok(None) };
        let wanted = (kind, image_size, channels);
        let of = |dataset: &Dataset| (dataset.input_kind(), dataset.image_size(), dataset.channels());
        let words = |(kind, image_size, channels)| format!("a teacher of {}", describe(kind, image_size, channels));
        let fits = |dataset: &&Arc<Dataset>| of(dataset) == wanted;
        if let Some(dataset) = opened.iter().find(fits) {
            return Ok(Some(View { dataset: Arc::clone(dataset), normalization }));
        }
        if kind != student.input_kind() {
            return Err(Error::new(Code::InvalidOption, "a teacher does not embed what the data are")
                .with_subject("teacher")
                .with_values(words(of(student)), words(wanted))
                .with_advice("pictures have teachers of pictures, or their stored vectors; vectors other vectors of the same ids"));
        }
        let data = DataPlan { image_size, channels, ..data.clone() };
        let dataset = Arc::new(open_dataset(&data, wanted, 0, control)?);
        if !dataset.has_items_of(student) {
            return Err(Error::new(
                Code::InvalidData,
                "the data have changed between decoding them for the student and for a teacher",
            )
            .with_subject("data")
            .with_advice("start again once nobody writes to them"));
        }
        opened.push(Arc::clone(&dataset));
        Ok(Some(View { dataset, normalization }))
    };
    inputs.map(view).collect()
}
