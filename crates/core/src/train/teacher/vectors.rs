//! Stored vectors as a teacher: it knows images by their names and sees no pixels, so that augmentation is the student's
//! alone.

use std::path::Path;

use super::spec::Teacher;
use crate::artefact::file::settled_name;
use crate::data::{Dataset, InputSpec};
use crate::error::{Code, Error, Result};
use crate::nn::{Backend, Feature, FeatureMap};
use crate::train::evaluate::Images;
use crate::train::event::{Control, Event};
use crate::vectors::{ImageNames, VectorOptions, VectorTable, join, judge, read};

/// Stored vectors as a teacher.
pub struct VectorTeacher<B: Backend> {
    backend: B,
    table: VectorTable,
    /// The file's, and how it was joined to the images.
    name: String,
    allow_missing: bool,
    shapes: FeatureMap<Vec<usize>>,
    /// The row of each image of the data set.
    rows: Vec<Option<u32>>,
}

impl<B: Backend> VectorTeacher<B> {
    /// Reads and judges the vectors in the file `path`; what is odd about them is a warning.
    ///
    /// # Errors
    /// Those of [`read`] and [`judge`].
    pub fn load(path: &Path, options: &VectorOptions, backend: B, control: &Control) -> Result<Self> {
        let named = |error: Error| match error.subject {
            None => error.with_subject(path.display().to_string()),
            Some(_) => error,
        };
        let table = read(path, options).map_err(named)?;
        let judged = judge(&table).map_err(named)?;
        for message in judged.warnings {
            control.emit(Event::Warning { message });
        }
        let shapes = FeatureMap::from([(Feature::Embedding, vec![1, table.dimension])]);
        let name = settled_name(path);
        Ok(VectorTeacher { backend, table, name, allow_missing: options.allow_missing, shapes, rows: Vec::new() })
    }
}

impl<B: Backend> Teacher<B> for VectorTeacher<B> {
    fn name(&self) -> &str {
        &self.name
    }

    fn parameter_count(&self) -> usize {
        0
    }

    fn shapes(&self) -> &FeatureMap<Vec<usize>> {
        &self.shapes
    }

    fn input(&self) -> Option<InputSpec> {
        None
    }

    fn bytes(&self) -> u64 {
        4 * self.table.rows.len() as u64 + self.table.ids.iter().map(|id| id.len() as u64 + 24).sum::<u64>()
    }

    fn hash(&self) -> &str {
        &self.table.hash
    }

    fn meet(&mut self, dataset: &Dataset, control: &Control) -> Result<()> {
        let names = ImageNames { ids: dataset.ids(), paths: dataset.paths(), given: dataset.given_ids() };
        let joined = join(&self.table, names, self.allow_missing)?;
        self.name = format!("{}, joined {}", self.name, joined.report.rule.sentence());
        for message in joined.report.warnings {
            control.emit(Event::Warning { message });
        }
        self.rows = joined.rows;
        Ok(())
    }

    fn knows(&self, item: u32) -> bool {
        self.rows.get(item as usize).is_some_and(Option::is_some)
    }

    fn features(&self, images: &Images<'_, B::Tensor>, names: &[Feature]) -> Result<FeatureMap<B::Tensor>> {
        if !names.contains(&Feature::Embedding) {
            return Ok(FeatureMap::new());
        }
        let d = self.table.dimension;
        let mut data = Vec::with_capacity(images.items.len() * d);
        for &item in images.items {
            let row = self.rows.get(item as usize).copied().flatten().ok_or_else(|| {
                Error::new(Code::Internal, format!("item {item} has no vector, and was not left out"))
            })?;
            data.extend_from_slice(self.table.row(row as usize));
        }
        Ok(FeatureMap::from([(Feature::Embedding, self.backend.from_f32(&data, &[images.items.len(), d])?)]))
    }
}
