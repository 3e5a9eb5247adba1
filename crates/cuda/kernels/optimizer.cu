// Optimiser steps as PyTorch defines them, and what clips gradients: of all parameters in one launch. A table has an entry for
// each, which is that of the blocks of one blockIdx.y.

struct AdamEntry {
  float *parameter, *mean, *square;
  const float* gradient;
  Long n;
  float shrink, rate, root2, unused;
};

KERNEL adam(const AdamEntry* table, float decay, float beta1, float rest1, float beta2, float rest2, float epsilon) {
  AdamEntry entry = table[blockIdx.y];
  FOR_FLAT(i, entry.n) {
    float before = entry.parameter[i];
    float g = entry.gradient[i] + decay * before;
    float m = beta1 * entry.mean[i] + rest1 * g;
    float s = beta2 * entry.square[i] + rest2 * g * g;
    entry.mean[i] = m;
    entry.square[i] = s;
    entry.parameter[i] = before * entry.shrink - entry.rate * (m / (sqrtf(s) / entry.root2 + epsilon));
  }
}

// `velocity` is null without a momentum.
struct SgdEntry {
  float *parameter, *velocity;
  const float* gradient;
  Long n;
  float rate, unused;
};

KERNEL sgd(const SgdEntry* table, float momentum, float decay, int nesterov) {
  SgdEntry entry = table[blockIdx.y];
  FOR_FLAT(i, entry.n) {
    float change = entry.gradient[i] + decay * entry.parameter[i];
    if (entry.velocity) {
      float v = momentum * entry.velocity[i] + change;
      entry.velocity[i] = v;
      change = nesterov ? change + momentum * v : v;
    }
    entry.parameter[i] -= entry.rate * change;
  }
}

struct Listed {
  float* x;
  Long n;
};

// The sums of squares of gridDim.x shares of each list: partial [lists, gridDim.x].
KERNEL listed_squares(const Listed* table, float* partial) {
  __shared__ float shared[WIDE + 8];
  Listed list = table[blockIdx.y];
  float sum = 0.0f;
  FOR_FLAT(i, list.n) sum += list.x[i] * list.x[i];
  sum = sum_block(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.y * gridDim.x + blockIdx.x] = sum;
}

KERNEL scale_listed(const Listed* table, const float* factor) {
  Listed list = table[blockIdx.y];
  float by = *factor;
  FOR_FLAT(i, list.n) list.x[i] *= by;
}

// min(1, largest / (norm + 1e-6)), where norm is that of all n norms together; NaN stays NaN.
KERNEL clip_factor(const float* norms, float* factor, float largest, int n) {
  FOR_FLAT(i, 1) {
    double square = 0.0;
    for (int k = 0; k < n; k++) square += (double)norms[k] * norms[k];
    double by = largest / (sqrt(square) + 1e-6);
    factor[i] = by > 1.0 ? 1.0f : (float)by;
  }
}
