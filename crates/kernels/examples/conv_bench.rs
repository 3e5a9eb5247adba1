//! Milliseconds and GFLOP/s of the three convolution passes over the layers of ResNet-18 and Conv-4, and milliseconds
//! and GB/s of batch normalisation with ReLU and of an Adam step.
//!
//! `cargo run -p rkd-kernels --example conv_bench -- [--threads N] [--isa avx512|avx2|neon|portable] [--only TEXT|others]`
//!
//! Rates count the multiplications of the definition, whatever the algorithm does, so that they compare algorithms.
//! Times are the best of fifteen calls: other programs' load only ever adds.

use std::time::Instant;

use rkd_kernels::activation::Activation;
use rkd_kernels::convolution::{Conv2d, backward_input, backward_weight, forward};
use rkd_kernels::matrix::{Operand, gemm};
use rkd_kernels::memory::Memory;
use rkd_kernels::normalization::{Passed, batch_norm_backward, batch_norm_train};
use rkd_kernels::optimizer::{AdamStep, adam};
use rkd_kernels::{Isa, Team};

/// Images, size of the square input, input and output channels, kernel, stride: padding keeps the size.
type Layer = (&'static str, [usize; 6]);

const LAYERS: [Layer; 31] = [
    ("resnet18-cifar stem", [64, 32, 3, 64, 3, 1]),
    ("resnet18-cifar layer1", [64, 32, 64, 64, 3, 1]),
    ("resnet18-cifar layer2.0", [64, 32, 64, 128, 3, 2]),
    ("resnet18-cifar layer2.0 shortcut", [64, 32, 64, 128, 1, 2]),
    ("resnet18-cifar layer2", [64, 16, 128, 128, 3, 1]),
    ("resnet18-cifar layer3.0", [64, 16, 128, 256, 3, 2]),
    ("resnet18-cifar layer3.0 shortcut", [64, 16, 128, 256, 1, 2]),
    ("resnet18-cifar layer3", [64, 8, 256, 256, 3, 1]),
    ("resnet18-cifar layer4.0", [64, 8, 256, 512, 3, 2]),
    ("resnet18-cifar layer4.0 shortcut", [64, 8, 256, 512, 1, 2]),
    ("resnet18-cifar layer4", [64, 4, 512, 512, 3, 1]),
    ("resnet18-64 stem", [64, 64, 3, 64, 7, 2]),
    ("resnet18-64 layer4.0", [64, 4, 256, 512, 3, 2]),
    ("resnet18-64 layer4", [64, 2, 512, 512, 3, 1]),
    ("resnet18-224 stem", [16, 224, 3, 64, 7, 2]),
    ("resnet18-224 layer1", [16, 56, 64, 64, 3, 1]),
    ("resnet18-224 layer2", [16, 28, 128, 128, 3, 1]),
    ("resnet18-224 layer3", [16, 14, 256, 256, 3, 1]),
    ("resnet18-224 layer4.0", [16, 14, 256, 512, 3, 2]),
    ("resnet18-224 layer4", [16, 7, 512, 512, 3, 1]),
    ("resnet50-64 layer2 conv1", [32, 8, 512, 128, 1, 1]),
    ("resnet50-64 layer4 conv2", [32, 2, 512, 512, 3, 1]),
    ("resnet50-64 layer4 conv3", [32, 2, 512, 2048, 1, 1]),
    ("resnet50-224 reduce", [8, 56, 256, 64, 1, 1]),
    ("resnet50-224 expand", [8, 14, 256, 1024, 1, 1]),
    ("conv4-28 layer1", [64, 28, 1, 64, 3, 1]),
    ("conv4-28 layer2", [64, 14, 64, 64, 3, 1]),
    ("conv4-28 layer3", [64, 7, 64, 64, 3, 1]),
    ("conv4-28 layer4", [64, 3, 64, 64, 3, 1]),
    ("conv4-84 layer2", [32, 42, 64, 64, 3, 1]),
    ("conv4-84 layer3", [32, 21, 64, 64, 3, 1]),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).cloned();
    let threads = option("--threads").map_or(0, |count| count.parse().expect("--threads takes a number"));
    let isa = option("--isa")
        .map_or_else(Isa::chosen, |name| Isa::named(&name))
        .unwrap_or_else(|message| panic!("{message}"));
    let only = option("--only").unwrap_or_default();
    let team = Team::with_isa(threads, isa);
    println!("{} threads, {}; a product inside the cache: {:.0} GFLOP/s", team.threads(), isa.name(), rate(&team));
    println!("{:34} {:>18} {:>18} {:>18}", "layer", "forward", "grad input", "grad weight");
    for (name, layer) in LAYERS.iter().filter(|(name, _)| name.contains(&only)) {
        measure(&team, name, *layer);
    }
    if only.is_empty() || only == "others" {
        measure_others(&team);
    }
}

fn measure_others(team: &Team) {
    println!("{:34} {:>18} {:>18}", "rows x channels", "batch norm + relu", "its gradient");
    for [rows, c] in [[65536, 64], [16384, 128], [4096, 256], [1024, 512]] {
        measure_batch_norm(team, rows, c);
    }
    measure_adam(team, 11 << 20);
}

/// Rates count every tensor read or written once in each sweep: two forward, two backward.
fn measure_batch_norm(team: &Team, rows: usize, c: usize) {
    let (x, dy, mut y, mut dx) = (wave(rows * c), wave(rows * c), wave(rows * c), wave(rows * c));
    let (gamma, beta) = (vec![1.0; c], vec![0.0; c]);
    let [mut mean, mut rstd, mut variance, mut dgamma, mut dbeta] = [(); 5].map(|()| vec![0.0; c]);
    let forward = best(|| {
        batch_norm_train(
            team,
            c,
            1e-5,
            &x,
            &gamma,
            &beta,
            None,
            Some(Activation::Relu),
            &mut y,
            &mut mean,
            &mut rstd,
            &mut variance,
        )
    });
    let backward = best(|| {
        batch_norm_backward(
            team,
            c,
            &x,
            Passed::Shift(Activation::Relu, &beta),
            &dy,
            &gamma,
            &mean,
            &rstd,
            &mut dx,
            &mut dgamma,
            &mut dbeta,
            None,
        )
    });
    let gigabytes = (rows * c * 4) as f64 / 1e6;
    let cells =
        [(forward, 3.0), (backward, 5.0)].map(|(ms, sweeps)| format!("{ms:9.2} ({:5.1})", gigabytes * sweeps / ms));
    println!("{:34} {:>18} {:>18}", format!("{rows} x {c}"), cells[0], cells[1]);
}

fn measure_adam(team: &Team, length: usize) {
    let gradient = wave(length);
    let [mut parameter, mut mean, mut square] = [wave(length), Memory::zeros(length), Memory::zeros(length)];
    let step = AdamStep {
        learning_rate: 1e-3,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        step: 10,
    };
    let ms = best(|| adam(team, &step, &mut parameter, &gradient, &mut mean, &mut square));
    println!("{:34} {:>18}", format!("adam, {length}"), format!("{ms:9.2} ({:5.1})", length as f64 * 28.0 / ms / 1e6));
}

/// The rate of a matrix product that stays in the cache: what the machine gives at best.
fn rate(team: &Team) -> f64 {
    let size = [1680, 128, 256];
    let (a, b, mut c) = (vec![0.5; size[0] * size[2]], vec![0.5; size[2] * size[1]], vec![0.0; size[0] * size[1]]);
    let (left, right) = (Operand::row_major(&a, size[2]), Operand::row_major(&b, size[1]));
    let ms = best(|| gemm(team, size, left, right, None, &mut c));
    2.0 * size.iter().product::<usize>() as f64 / ms / 1e6
}

fn measure(team: &Team, name: &str, [n, size, c_in, c_out, kernel, stride]: [usize; 6]) {
    let (kernel2, padding) = ([kernel; 2], [kernel / 2; 2]);
    let (h, w, dilation, groups) = (size, size, [1; 2], 1);
    let s =
        Conv2d { n, h, w, c_in, c_out, kernel: kernel2, stride: [stride; 2], padding, extra: [0; 2], dilation, groups };
    let (x, weight, dy) = (wave(s.input_len()), wave(s.weight_len()), wave(s.output_len()));
    let (mut y, mut dx, mut dweight) = (wave(dy.len()), wave(x.len()), wave(weight.len()));
    let times = [
        best(|| forward(team, &s, &x, &weight, None, &mut y)),
        best(|| backward_input(team, &s, &dy, &weight, &mut dx)),
        best(|| backward_weight(team, &s, &x, &dy, &mut dweight, None)),
    ];
    let cells = times.map(|ms| format!("{ms:9.2} ({:5.0})", s.flops() / ms / 1e6));
    println!("{name:34} {:>18} {:>18} {:>18}", cells[0], cells[1], cells[2]);
}

/// Numbers in [-0.5, 0.5] in the kind of memory that networks use.
fn wave(length: usize) -> Memory<f32> {
    let mut memory = Memory::zeros(length);
    memory.iter_mut().enumerate().for_each(|(i, value)| *value = ((i * 37 % 101) as f32 - 50.0) / 100.0);
    memory
}

fn best(mut call: impl FnMut()) -> f64 {
    let times = (0..15).map(|_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64() * 1e3
    });
    times.fold(f64::INFINITY, f64::min)
}
