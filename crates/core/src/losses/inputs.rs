//! What a loss is given: features of one batch, labels, threads and random numbers.

use rkd_kernels::Pool;

use super::embedding::SquaredDistances;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// A feature of a batch: n rows of d numbers, row-major. A row may be a map: pixels of a width and a height, each with
/// its channels side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// n.
    pub rows: usize,
    /// d; for maps height x width x channels.
    pub columns: usize,
    /// The numbers.
    pub data: Vec<f64>,
    /// Height, width and channels of a row that is a map.
    pub map: Option<[usize; 3]>,
    /// See [`SquaredDistances`]; the numbers above do not change once a loss has seen them.
    pub(super) squared_distances: SquaredDistances,
}

impl Matrix {
    /// Takes `[n, d]` numbers. `name` ("student", "teacher") is what errors call them.
    ///
    /// # Errors
    /// `ERR_INVALID_SHAPE` if there are not n * d of them or d is 0, `ERR_NON_FINITE` if one is no finite number.
    pub fn new<T: Copy + Into<f64>>(name: &str, data: &[T], rows: usize, columns: usize) -> Result<Matrix> {
        Matrix::tensor(name, data, &[rows, columns])
    }

    /// Takes a tensor `[n, d]` or `[n, h, w, c]`.
    ///
    /// # Errors
    /// Those of [`Matrix::new`]; `ERR_INVALID_SHAPE` for other numbers of axes.
    pub fn tensor<T: Copy + Into<f64>>(name: &str, data: &[T], shape: &[usize]) -> Result<Matrix> {
        Matrix::owned(name, data.iter().map(|&value| value.into()).collect(), shape)
    }

    /// [`Matrix::tensor`] of numbers that nobody else needs.
    pub fn owned(name: &str, data: Vec<f64>, shape: &[usize]) -> Result<Matrix> {
        let (rows, columns, map) = match *shape {
            [n, d] => (n, d, None),
            [n, h, w, c] => {
                let columns = h.checked_mul(w).and_then(|pixels| pixels.checked_mul(c)).unwrap_or(0);
                (n, columns, Some([h, w, c]))
            }
            _ => {
                return Err(Error::new(Code::InvalidShape, "a feature has n rows of d numbers, or of maps")
                    .with_subject(name)
                    .with_values("a shape of two or four axes", format!("{shape:?}"))
                    .with_advice("give the data row by row, with its shape"));
            }
        };
        if columns == 0 || rows.checked_mul(columns) != Some(data.len()) {
            return Err(Error::new(Code::InvalidShape, "the numbers do not fit the shape")
                .with_subject(name)
                .with_values(
                    format!("n x d numbers, d at least 1, for the shape [{rows}, {columns}]"),
                    format!("{} numbers", data.len()),
                )
                .with_advice("give the numbers row by row, with their shape"));
        }
        if let Some(place) = data.iter().position(|value| !value.is_finite()) {
            let (row, column) = (place / columns, place % columns);
            return Err(Error::new(Code::NonFinite, format!("row {row}, column {column} is not a finite number"))
                .with_subject(name)
                .with_values("finite numbers", data[place].to_string())
                .with_advice("find where it arises; training with a smaller learning rate is the usual cure"));
        }
        Ok(Matrix { rows, columns, data, map, squared_distances: SquaredDistances::default() })
    }

    /// `[n, d]`, or `[n, h, w, c]` of maps.
    pub fn shape(&self) -> Vec<usize> {
        match self.map {
            Some([h, w, c]) => vec![self.rows, h, w, c],
            None => vec![self.rows, self.columns],
        }
    }

    /// Row `i`.
    pub fn row(&self, i: usize) -> &[f64] {
        &self.data[i * self.columns..][..self.columns]
    }
}

/// What one term is evaluated on: the features it was pointed at, and what else losses use.
#[derive(Clone)]
pub struct LossInputs<'a> {
    /// The student's feature.
    pub student: &'a Matrix,
    teacher: Option<&'a Matrix>,
    labels: Option<&'a [u32]>,
    parameters: &'a [Matrix],
    /// The threads.
    pub pool: &'a Pool,
    /// The stream that random choices of this batch are drawn from.
    pub random: Random,
}

impl<'a> LossInputs<'a> {
    /// The student's feature alone.
    pub fn new(student: &'a Matrix, pool: &'a Pool, random: Random) -> Self {
        LossInputs { student, teacher: None, labels: None, parameters: &[], pool, random }
    }

    /// Adds the teacher's feature.
    pub fn with_teacher(mut self, teacher: &'a Matrix) -> Self {
        self.teacher = Some(teacher);
        self
    }

    /// Adds the labels, one for each row.
    pub fn with_labels(mut self, labels: &'a [u32]) -> Self {
        self.labels = Some(labels);
        self
    }

    /// Adds the values of the loss's own parameters, in the order of [`Loss::parameters`](super::Loss::parameters).
    pub fn with_parameters(mut self, parameters: &'a [Matrix]) -> Self {
        self.parameters = parameters;
        self
    }

    /// The teacher's feature, of as many rows as the student's.
    pub fn teacher(&self) -> Result<&'a Matrix> {
        let teacher = self.teacher.ok_or_else(|| {
            Error::new(Code::InvalidShape, "this loss compares with a teacher")
                .with_subject("teacher")
                .with_advice("give the teacher's feature for every row")
        })?;
        if teacher.rows != self.student.rows {
            return Err(Error::new(Code::InvalidShape, "teacher and student describe different numbers of items")
                .with_subject("teacher")
                .with_values(
                    format!("{} rows, as the student has", self.student.rows),
                    format!("{} rows", teacher.rows),
                )
                .with_advice("give row i of both for item i"));
        }
        Ok(teacher)
    }

    /// The labels, one for each row of the student.
    pub fn labels(&self) -> Result<&'a [u32]> {
        let missing = || {
            Error::new(Code::InvalidShape, "this loss needs labels")
                .with_subject("labels")
                .with_advice("give one class number for each row")
        };
        let labels = self.labels.ok_or_else(missing)?;
        if labels.len() != self.student.rows {
            return Err(missing().with_values(format!("{} labels", self.student.rows), format!("{}", labels.len())));
        }
        Ok(labels)
    }

    /// The value of the loss's own parameter `index`.
    pub fn parameter(&self, index: usize) -> Result<&'a Matrix> {
        self.parameters.get(index).ok_or_else(|| {
            Error::new(Code::InvalidShape, "this loss has parameters of its own")
                .with_subject("parameters")
                .with_values(format!("at least {}", index + 1), self.parameters.len().to_string())
        })
    }
}
