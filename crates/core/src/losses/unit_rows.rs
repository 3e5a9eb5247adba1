//! Rows divided by their norms, for the losses that compare directions.
//!
//! ```text
//! y_i = x_i / |x_i|,   dL/dx_i = (g_i - y_i <y_i, g_i>) / |x_i|,   g_i = dL/dy_i
//! ```
//! A row shorter than 1e-12 has no direction: y_i = 0, and nothing flows. PyTorch's `normalize` would give it a
//! gradient of up to 1e12, which is none.

/// Norm below which a row has no direction, PyTorch's.
const SMALLEST: f64 = 1e-12;

/// The rows of norm 1, with the norms that they had.
pub(super) struct UnitRows {
    /// The rows.
    pub data: Vec<f64>,
    norms: Vec<f64>,
    columns: usize,
}

impl UnitRows {
    pub(super) fn new(mut data: Vec<f64>, columns: usize) -> Self {
        let divide = |row: &mut [f64]| {
            let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter_mut().for_each(|v| *v = if norm < SMALLEST { 0.0 } else { *v / norm });
            norm
        };
        let norms = data.chunks_exact_mut(columns.max(1)).map(divide).collect();
        UnitRows { data, norms, columns }
    }

    /// Makes a gradient over these rows one over the rows as they were given.
    pub(super) fn pull_back(&self, gradient: &mut [f64]) {
        let columns = self.columns.max(1);
        let rows = gradient.chunks_exact_mut(columns).zip(self.data.chunks_exact(columns));
        for ((gradient, y), norm) in rows.zip(&self.norms) {
            let along: f64 = y.iter().zip(&*gradient).map(|(y, g)| y * g).sum();
            let slope = |g: f64, y: f64| if *norm < SMALLEST { 0.0 } else { (g - y * along) / norm };
            gradient.iter_mut().zip(y).for_each(|(g, y)| *g = slope(*g, *y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_a_direction_stays_zero_and_gets_nothing() {
        let unit = UnitRows::new(vec![3.0, 4.0, 0.0, 0.0, 1e-13, 0.0], 2);
        assert_eq!(unit.data, [0.6, 0.8, 0.0, 0.0, 0.0, 0.0]);
        let mut gradient = [1.0; 6];
        unit.pull_back(&mut gradient);
        assert_eq!(gradient[2..], [0.0; 4]);
        // Across the row, none along it.
        assert!((gradient[0] - 0.2 * (1.0 - 0.6 * 1.4)).abs() < 1e-15, "{gradient:?}");
        assert!((3.0 * gradient[0] + 4.0 * gradient[1]).abs() < 1e-15, "{gradient:?}");
    }
}
