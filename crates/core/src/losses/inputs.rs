//! What a loss is given: features of one batch, labels, threads, ranks and random numbers.

use rkd_kernels::Team;

use crate::error::{Code, Error, Result};
use crate::random::Random;
use crate::ranks::Ranks;
use crate::tensor::Matrix;

/// What one term is evaluated on: the features it was pointed at, and what else losses use.
#[derive(Clone)]
pub struct LossInputs<'a> {
    /// The student's feature.
    pub student: &'a Matrix,
    teacher: Option<&'a Matrix>,
    labels: Option<&'a [u32]>,
    parameters: &'a [Matrix],
    /// The threads.
    pub team: &'a Team,
    /// The processes that evaluate the same term on the same inputs, and may share its work.
    pub ranks: Ranks,
    /// The stream that random choices of this batch are drawn from.
    pub random: Random,
}

impl<'a> LossInputs<'a> {
    /// The student's feature alone.
    pub fn new(student: &'a Matrix, team: &'a Team, random: Random) -> Self {
        LossInputs { student, teacher: None, labels: None, parameters: &[], team, ranks: Ranks::one(), random }
    }

    /// The same on several ranks.
    pub fn on(mut self, ranks: Ranks) -> Self {
        self.ranks = ranks;
        self
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
