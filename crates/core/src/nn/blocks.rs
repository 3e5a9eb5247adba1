//! Few images at a time through the operations of an evaluation whose maps are large.
//!
//! The maps of a whole batch before the first reductions are many times larger than any cache: each operation would read
//! and write them in memory, which takes longer than to compute them. Of few images they stay in the cache, and there are
//! fewer of them at once. With every reduction more images fit; where weights outweigh maps, all go together, so that
//! weights are read once. An image's features do not depend on the images beside it, so the cut changes no bit.

use super::layer::ParameterId;
use super::lowering::{FusedConvolution, Last, LinearOperation, Operation, SumBlock};
use super::parameters::ParameterSpec;
use crate::error::Result;

/// Height, width and channels of a map.
type Size = [usize; 3];

/// What decides the cut of a list of operations.
#[derive(Clone, Debug)]
pub struct Blocks {
    /// Of each operation from the first on, as long as maps outweigh weights: the most values of an image that are read
    /// and written at once.
    values: Vec<usize>,
}

/// Operations that blocks of images go through one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The first operation and the one behind the last.
    pub operations: [usize; 2],
    /// Images of a block.
    pub images: usize,
}

impl Blocks {
    /// Looks at `operations` that begin with images of this size.
    ///
    /// # Errors
    /// Where a map is smaller than a window.
    pub fn new(operations: &[Operation], specs: &[ParameterSpec], image: Size) -> Result<Blocks> {
        let (mut values, mut size) = (Vec::new(), image);
        for operation in operations {
            let step = step(operation, specs, size)?;
            if step.weights > step.values {
                break;
            }
            values.push(step.values);
            size = step.size;
        }
        Ok(Blocks { values })
    }

    /// The stages of `n` images up to where all of them go together, if `cached` values stay in the cache. A stage ends where
    /// twice as many images fit from there on.
    pub fn stages(&self, n: usize, cached: usize) -> Vec<Stage> {
        // How many images fit from an operation on to the last.
        let mut fitting: Vec<usize> = self.values.iter().map(|values| (cached / values).max(1)).collect();
        for operation in (1..fitting.len()).rev() {
            fitting[operation - 1] = fitting[operation - 1].min(fitting[operation]);
        }
        let (mut stages, mut first) = (Vec::new(), 0);
        while let Some(&images) = fitting.get(first).filter(|&&images| images < n) {
            let end = (first..fitting.len()).find(|&next| fitting[next] >= 2 * images).unwrap_or(fitting.len());
            // As even as can be.
            stages.push(Stage { operations: [first, end], images: n.div_ceil(n.div_ceil(images)) });
            first = end;
        }
        stages
    }
}

/// What an operation does to one image.
struct Step {
    /// Of the result.
    size: Size,
    /// The most values that are read and written at once.
    values: usize,
    weights: usize,
}

fn count(size: Size) -> usize {
    size.iter().product()
}

fn step(operation: &Operation, specs: &[ParameterSpec], size: Size) -> Result<Step> {
    let [h, w, c] = size;
    let to =
        |size_after: Size, weights: usize| Step { size: size_after, values: count(size) + count(size_after), weights };
    let outputs = |weight: ParameterId| specs[weight].shape[0];
    Ok(match operation {
        Operation::Convolution(convolution)
        | Operation::FusedConvolution(FusedConvolution { convolution, .. })
        | Operation::BatchNormDepthwise(_, convolution) => {
            let [h, w] = convolution.windows.output([h, w])?;
            to([h, w, outputs(convolution.weight)], specs[convolution.weight].count())
        }
        Operation::BatchNorm2d(_)
        | Operation::LayerNorm(_)
        | Operation::Activation(_)
        | Operation::Dropout(_)
        | Operation::L2Normalize => to(size, 0),
        Operation::BatchNormMaxPool(_, windows) | Operation::MaxPool(windows) => {
            let [h, w] = windows.output([h, w])?;
            to([h, w, c], 0)
        }
        Operation::Linear(LinearOperation { layer, .. }) | Operation::FusedLinear(layer, _) => {
            to([h, w, outputs(layer.weight)], specs[layer.weight].count())
        }
        // Queries, keys and values of a token lie side by side.
        Operation::Attention { .. } => to([h, w, c / 3], 0),
        Operation::Tokens(tokens) => to([1 + h * w, 1, c], specs[tokens.class + 1].count()),
        Operation::ClassToken => to([1, 1, c], 0),
        Operation::Sum(SumBlock { body, last }) => {
            let body = steps(body, specs, size)?;
            let last = last.map(|last| step(&Operation::Linear(last), specs, body.size)).transpose()?;
            // The input is kept while the body runs.
            let most = last.iter().map(|last| last.values).fold(body.values, usize::max);
            let weights = body.weights + last.map_or(0, |last| last.weights);
            Step { size, values: count(size) + most, weights }
        }
        Operation::SqueezeExcitation(gate) => to(size, steps(gate, specs, [1, 1, c])?.weights),
        Operation::GlobalAverage => to([1, 1, c], 0),
        Operation::Flatten => to([1, 1, count(size)], 0),
        Operation::Tap(_) => to(size, 0),
        Operation::Residual(block) => {
            let (around, through) = (steps(&block.shortcut, specs, size)?, steps(&block.body, specs, size)?);
            let (last_size, last_weights) = match &block.last {
                Last::BatchNorm2d(_) | Last::Add(_) => (through.size, 0),
                Last::FusedConvolution(fused) => {
                    let last = step(&Operation::FusedConvolution(fused.clone()), specs, through.size)?;
                    (last.size, last.weights)
                }
            };
            // The way around is kept while the body runs, and added at its end.
            let kept = count(around.size);
            let end = count(through.size) + kept + count(last_size);
            Step {
                size: last_size,
                values: around.values.max(kept + through.values).max(end),
                weights: around.weights + through.weights + last_weights,
            }
        }
        Operation::Branches(branches) => {
            let ways = branches.iter().map(|way| steps(way, specs, size)).collect::<Result<Vec<_>>>()?;
            let [h, w] = ways.first().map_or([h, w], |way| [way.size[0], way.size[1]]);
            let joined = [h, w, ways.iter().map(|way| way.size[2]).sum()];
            let most = ways.iter().map(|way| way.values).max().unwrap_or(0);
            let weights = ways.iter().map(|way| way.weights).sum();
            Step { size: joined, values: count(size) + most.max(2 * count(joined)), weights }
        }
    })
}

/// Operations one after the other.
fn steps(operations: &[Operation], specs: &[ParameterSpec], size: Size) -> Result<Step> {
    operations.iter().try_fold(Step { size, values: 0, weights: 0 }, |before, operation| {
        let step = step(operation, specs, before.size)?;
        let values = before.values.max(step.values);
        Ok(Step { size: step.size, values, weights: before.weights + step.weights })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbones::{BackboneSpec, define};
    use crate::nn::lowering::{Mode, Program};

    #[test]
    fn as_many_images_go_together_as_the_cache_holds() {
        let blocks = Blocks { values: vec![20, 40, 30, 5, 10] };
        let stage = |operations, images| Stage { operations, images };
        assert_eq!(blocks.stages(2, 80), []);
        assert_eq!(blocks.stages(3, 80), [stage([0, 3], 2)]);
        assert_eq!(blocks.stages(8, 80), [stage([0, 3], 2)]);
        assert_eq!(blocks.stages(9, 80), [stage([0, 3], 2), stage([3, 5], 5)], "as even as can be");
        assert_eq!(blocks.stages(3, 8), [stage([0, 5], 1)], "an image that is larger goes alone");
    }

    #[test]
    fn every_backbone_is_measured_to_where_its_weights_outweigh_its_maps() {
        let measure = |kind: &str| {
            let definition = define(&BackboneSpec::published(kind, 224)).unwrap();
            let program = Program::new(&definition, Mode::Folded, None);
            Blocks::new(&program.body, &definition.parameters, [224, 224, 3]).unwrap().values
        };
        // The first convolution reads an image and writes 112 x 112 pixels.
        let (image, pixels) = (3 * 224 * 224, 112 * 112);
        for (kind, channels) in [("resnet50", 64), ("mobilenet-v3-small", 16), ("efficientnet-lite0", 32)] {
            assert_eq!(measure(kind)[0], image + channels * pixels, "{kind}");
        }
        // The first block of ResNet-50 keeps 256 channels of the way around while it writes as many from 64, on 56 x 56.
        assert_eq!(measure("resnet50").iter().skip(2).copied().max(), Some(56 * 56 * (64 + 256 + 256)));
    }
}
