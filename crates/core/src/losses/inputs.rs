//! What a loss is given: features of one batch, labels, threads and random numbers.

use rkd_kernels::Pool;

use crate::error::{Code, Error, Result};
use crate::random::Random;

/// A feature of a network that a loss can read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Feature {
    /// The embedding, `[n, d]`.
    Embedding,
    /// The feature before the embedding layer, `[n, p]`.
    Pooled,
    /// The logits, `[n, classes]`.
    Logits,
    /// A named activation inside the network.
    Tap(String),
}

impl Feature {
    /// The name in messages.
    pub fn name(&self) -> &str {
        match self {
            Feature::Embedding => "embedding",
            Feature::Pooled => "pooled",
            Feature::Logits => "logits",
            Feature::Tap(name) => name,
        }
    }
}

/// A feature of a batch: n rows of d numbers, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// n.
    pub rows: usize,
    /// d.
    pub columns: usize,
    /// The numbers.
    pub data: Vec<f64>,
}

impl Matrix {
    /// Takes `[n, d]` numbers. `name` ("student", "teacher") is what errors call them.
    ///
    /// # Errors
    /// `ERR_INVALID_SHAPE` if there are not n * d of them or d is 0, `ERR_NON_FINITE` if one is no finite number.
    pub fn new<T: Copy + Into<f64>>(name: &str, data: &[T], rows: usize, columns: usize) -> Result<Matrix> {
        if columns == 0 || rows.checked_mul(columns) != Some(data.len()) {
            return Err(Error::new(Code::InvalidShape, "the numbers do not fit the shape")
                .with_subject(name)
                .with_values(
                    format!("n x d numbers, d at least 1, for the shape [{rows}, {columns}]"),
                    format!("{} numbers", data.len()),
                )
                .with_advice("give the numbers row by row, with their shape"));
        }
        let data: Vec<f64> = data.iter().map(|&value| value.into()).collect();
        if let Some(place) = data.iter().position(|value| !value.is_finite()) {
            let (row, column) = (place / columns, place % columns);
            return Err(Error::new(Code::NonFinite, format!("row {row}, column {column} is not a finite number"))
                .with_subject(name)
                .with_values("finite numbers", data[place].to_string())
                .with_advice("find where it arises; training with a smaller learning rate is the usual cure"));
        }
        Ok(Matrix { rows, columns, data })
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.columns..][..self.columns]
    }
}

/// The features of one batch, and what else losses use.
pub struct LossInputs<'a> {
    student: Vec<(Feature, Matrix)>,
    teacher: Vec<(Feature, Matrix)>,
    labels: Option<&'a [u32]>,
    /// The threads.
    pub pool: &'a Pool,
    /// The stream that random choices of this batch are drawn from.
    pub random: Random,
}

impl<'a> LossInputs<'a> {
    /// No features yet.
    pub fn new(pool: &'a Pool, random: Random) -> Self {
        LossInputs { student: Vec::new(), teacher: Vec::new(), labels: None, pool, random }
    }

    /// Adds a feature of the student.
    pub fn with_student(mut self, feature: Feature, matrix: Matrix) -> Self {
        self.student.push((feature, matrix));
        self
    }

    /// Adds a feature of the teacher.
    pub fn with_teacher(mut self, feature: Feature, matrix: Matrix) -> Self {
        self.teacher.push((feature, matrix));
        self
    }

    /// Adds the labels, one for each row.
    pub fn with_labels(mut self, labels: &'a [u32]) -> Self {
        self.labels = Some(labels);
        self
    }

    /// The student's feature.
    pub fn student(&self, feature: &Feature) -> Result<&Matrix> {
        find(&self.student, feature, "student")
    }

    /// The teacher's feature, of as many rows as the student's.
    pub fn teacher(&self, feature: &Feature) -> Result<&Matrix> {
        let teacher = find(&self.teacher, feature, "teacher")?;
        let rows = self.student(feature)?.rows;
        if teacher.rows != rows {
            return Err(Error::new(Code::InvalidShape, "teacher and student describe different numbers of items")
                .with_subject("teacher")
                .with_values(format!("{rows} rows, as the student has"), format!("{} rows", teacher.rows))
                .with_advice("give row i of both for item i"));
        }
        Ok(teacher)
    }

    /// The labels, one for each of `rows`.
    pub fn labels(&self, rows: usize) -> Result<&'a [u32]> {
        let missing = || {
            Error::new(Code::InvalidShape, "this loss needs labels")
                .with_subject("labels")
                .with_advice("give one class number for each row")
        };
        let labels = self.labels.ok_or_else(missing)?;
        if labels.len() != rows {
            return Err(missing().with_values(format!("{rows} labels"), format!("{}", labels.len())));
        }
        Ok(labels)
    }
}

fn find<'m>(features: &'m [(Feature, Matrix)], feature: &Feature, who: &str) -> Result<&'m Matrix> {
    features.iter().find(|(name, _)| name == feature).map(|(_, matrix)| matrix).ok_or_else(|| {
        Error::new(Code::InvalidShape, format!("this loss needs the {who}'s {}", feature.name()))
            .with_subject(who)
            .with_advice(format!("give the {who}'s {} for every row", feature.name()))
    })
}
