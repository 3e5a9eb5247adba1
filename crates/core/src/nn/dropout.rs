//! Dropout (Srivastava et al. 2014) and stochastic depth (Huang et al. 2016): what a training pass leaves out at random.
//!
//! `y = x * m / (1 - p)`, where m is 0 with probability p and else 1, so that the mean stays. Dropout draws m for every
//! number of a vector; stochastic depth draws it once for an image, of which a residual block is then its shortcut alone.
//! Evaluation passes have neither.
//!
//! A draw is a function of (seed, step, row, layer), see [`crate::random`]: any number of threads, any cut of a batch and
//! any restart give the same.

use super::backend::Backend;
use crate::error::{Code, Error, Result};
use crate::random::Random;

/// Where a training pass stands in its run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Draw {
    /// Of the run.
    pub seed: u64,
    /// Steps before this one.
    pub step: u64,
    /// Rows of the batch before the first image of the pass.
    pub row: usize,
}

impl Draw {
    /// What each of `d` numbers of each of `n` images is multiplied by before `layer`: `[n, 1, 1, d]`.
    pub fn dropout<B: Backend>(self, backend: &B, share: f64, layer: &str, [n, d]: [usize; 2]) -> Result<B::Tensor> {
        let purpose = format!("dropout {layer}");
        let row = |row| {
            let mut random = self.random(row, &purpose);
            (0..d).map(move |_| factor(&mut random, share))
        };
        backend.from_f64(&(0..n).flat_map(row).collect::<Vec<_>>(), &[n, 1, 1, d])
    }

    /// What all `c` channels of each of `n` images are multiplied by after `layer`: `[n, 1, 1, c]`.
    pub fn drop_path<B: Backend>(self, backend: &B, share: f64, layer: &str, [n, c]: [usize; 2]) -> Result<B::Tensor> {
        let purpose = format!("drop path {layer}");
        let row = |row| std::iter::repeat_n(factor(&mut self.random(row, &purpose), share), c);
        backend.from_f64(&(0..n).flat_map(row).collect::<Vec<_>>(), &[n, 1, 1, c])
    }

    fn random(self, row: usize, purpose: &str) -> Random {
        Random::keyed(self.seed, self.step, (self.row + row) as u64, purpose)
    }
}

fn factor(random: &mut Random, share: f64) -> f64 {
    if random.uniform() < share { 0.0 } else { 1.0 / (1.0 - share) }
}

/// `x [n, h, w, c]` or `[n, c]` times `factors [n, 1, 1, c]`; also the gradient from that of the product.
pub fn scale<B: Backend>(backend: &B, x: &B::Tensor, factors: &B::Tensor) -> Result<B::Tensor> {
    match *B::shape(x) {
        [n, c] => {
            let y = backend.scale_channels(&backend.reshape(x, &[n, 1, 1, c])?, factors)?;
            backend.reshape(&y, &[n, c])
        }
        _ => backend.scale_channels(x, factors),
    }
}

/// Checks a share of what is left out.
///
/// # Errors
/// `ERR_INVALID_OPTION` for one that is not in `[0, 1)`.
pub fn check_share(option: &str, share: f64) -> Result<()> {
    if (0.0..1.0).contains(&share) {
        return Ok(());
    }
    Err(Error::new(Code::InvalidOption, "the value is out of range")
        .with_subject(option)
        .with_values("a number at least 0 and less than 1", share.to_string())
        .with_advice("0 leaves nothing out"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Portable;

    const DRAW: Draw = Draw { seed: 5, step: 7, row: 0 };

    fn dropout(draw: Draw, [n, d]: [usize; 2]) -> Vec<f64> {
        let backend = Portable::cpu_f64();
        backend.to_f64(&draw.dropout(&backend, 0.3, "fc", [n, d]).unwrap()).unwrap()
    }

    fn drop_path(draw: Draw, [n, c]: [usize; 2]) -> Vec<f64> {
        let backend = Portable::cpu_f64();
        backend.to_f64(&draw.drop_path(&backend, 0.3, "bn", [n, c]).unwrap()).unwrap()
    }

    #[test]
    fn the_share_is_left_out_and_the_mean_kept() {
        for factors in [dropout(DRAW, [400, 100]), drop_path(DRAW, [40_000, 1])] {
            let left_out = factors.iter().filter(|&&factor| factor == 0.0).count() as f64 / factors.len() as f64;
            let mean = factors.iter().sum::<f64>() / factors.len() as f64;
            // Four deviations of 40,000 draws.
            assert!((left_out - 0.3).abs() < 0.01, "{left_out}");
            assert!((mean - 1.0).abs() < 0.014, "{mean}");
            assert!(factors.iter().all(|&factor| factor == 0.0 || factor == 1.0 / 0.7));
        }
    }

    #[test]
    fn a_path_is_left_out_for_whole_images() {
        let factors = drop_path(DRAW, [200, 3]);
        assert!(factors.chunks(3).all(|channels| channels.iter().all(|factor| factor == &channels[0])));
        let kinds = [0.0, 1.0 / 0.7].map(|kind| factors.contains(&kind));
        assert_eq!(kinds, [true, true]);
    }

    #[test]
    fn a_draw_belongs_to_seed_step_row_and_layer() {
        let all = dropout(DRAW, [6, 50]);
        assert_eq!(all[100..], dropout(Draw { row: 2, ..DRAW }, [4, 50]), "a cut changes nothing");
        let paths = drop_path(DRAW, [300, 1]);
        assert_eq!(paths[100..], drop_path(Draw { row: 100, ..DRAW }, [200, 1]));
        let backend = Portable::cpu_f64();
        let elsewhere = backend.to_f64(&DRAW.dropout(&backend, 0.3, "classifier", [6, 50]).unwrap()).unwrap();
        let others =
            [dropout(Draw { step: 8, ..DRAW }, [6, 50]), dropout(Draw { seed: 6, ..DRAW }, [6, 50]), elsewhere];
        assert!(others.iter().all(|other| *other != all));
    }
}
