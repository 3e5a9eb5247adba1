// All kernels as one module: PTX for the GPU, or, behind twin.h, functions for the CPU twin.
#ifdef RKD_TWIN
#include "twin.h"
#else
#define KERNEL extern "C" __global__ void
#endif

#include "common.cuh"

#include "attention.cu"
#include "channels.cu"
#include "convolution.cu"
#include "elementwise.cu"
#include "maps.cu"
#include "normalization.cu"
#include "optimizer.cu"
#include "pooling.cu"
#include "relations.cu"

#ifdef RKD_TWIN
#include "twin_table.h"
#endif
