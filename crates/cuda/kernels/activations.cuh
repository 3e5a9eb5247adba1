// The kernels on activations, for one kind of them: `Real`.

#include "attention.cu"
#include "channels.cu"
#include "depthwise.cu"
#include "elementwise.cu"
#include "normalization.cu"
#include "pooling.cu"
