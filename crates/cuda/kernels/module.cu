// All kernels as one module: PTX for the GPU, or, behind twin.h, functions for the CPU twin.
#ifdef RKD_TWIN
#include "twin.h"
#else
#define KERNEL extern "C" __global__ void
#define MEMBER __device__
#endif

#include "common.cuh"

// Activations and their gradients are float32 or bfloat16; parameters, statistics and sums are float32. One text, compiled for both.
#define Real float
#define REAL_KERNEL(name) KERNEL name
#include "activations.cuh"
#undef Real
#undef REAL_KERNEL
#define Real Bfloat
#define REAL_KERNEL(name) KERNEL name##_bf16
#include "activations.cuh"

#include "convolution.cu"
#include "maps.cu"
#include "optimizer.cu"
#include "relations.cu"
#include "vectors.cu"

#ifdef RKD_TWIN
#include "twin_table.h"
#endif
