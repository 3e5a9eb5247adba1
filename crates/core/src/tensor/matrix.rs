//! A feature on the host, in float64: what losses, samplers and metrics compute with.

use std::sync::OnceLock;

use crate::error::{Code, Error, Result};

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
    /// The numbers above do not change once a loss has seen them.
    squared_distances: SquaredDistances,
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

    /// The matrix of squared distances of the rows, computed by the first caller's `compute`.
    pub(crate) fn squared_distances(&self, compute: impl FnOnce() -> Vec<f64>) -> &[f64] {
        self.squared_distances.0.get_or_init(compute)
    }
}

/// A feature's squared distances once a loss has asked for them: computed once for all terms of a batch. A copy of the
/// feature starts without.
#[derive(Debug, Default)]
struct SquaredDistances(OnceLock<Vec<f64>>);

impl Clone for SquaredDistances {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for SquaredDistances {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
