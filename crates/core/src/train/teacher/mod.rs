//! The teacher of a distillation: whatever gives features for images, which the losses compare with.
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
pub use spec::{CACHE_LIMIT, Teacher, TeacherFeatures, TeacherPlan};
pub(super) use spec::{numbers_of, shapes_of};

use self::network::NetworkTeacher;
use self::onnx::OnnxTeacher;
use self::vectors::VectorTeacher;
use super::evaluate::open_dataset;
use super::event::Control;
use super::host::Host;
use crate::data::{DataPlan, Dataset, InputSpec, View};
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
    Ok(match (&plan.onnx, &plan.vectors) {
        (None, None) => Box::new(NetworkTeacher::load(&plan.model, backend, read)?),
        (_, Some(options)) => Box::new(VectorTeacher::load(&plan.model, options, backend.clone(), control)?),
        (Some(options), None) => {
            let model = OnnxModel::open(&plan.model, options, host.team().threads())?;
            Box::new(OnnxTeacher::new(model, backend.clone()))
        }
    })
}

/// The images as the teacher wants them: the student's, if they have its size and channels or it needs none; `student` is
/// how the student sees them.
pub(super) fn teacher_view(
    data: &DataPlan,
    input: Option<InputSpec>,
    student: &Arc<Dataset>,
    control: &Control,
) -> Result<Option<View>> {
    let Some(InputSpec { image_size, channels, normalization }) = input else { return Ok(None) };
    if (image_size, channels) == (student.image_size(), student.channels()) {
        return Ok(Some(View { dataset: Arc::clone(student), normalization }));
    }
    let data = DataPlan { image_size, channels, ..data.clone() };
    let view = View { dataset: Arc::new(open_dataset(&data, image_size, channels, 0, control)?), normalization };
    if view.dataset.has_items_of(student) {
        return Ok(Some(view));
    }
    Err(Error::new(
        Code::InvalidData,
        "the data have changed between decoding them for the student and for the teacher",
    )
    .with_subject("data")
    .with_advice("start again once nobody writes to them"))
}
