// Optimiser steps as PyTorch defines them, and what clips gradients.

KERNEL adam(float* parameter, const float* gradient, float* mean, float* square, float shrink, float decay, float beta1,
            float rest1, float beta2, float rest2, float rate, float root2, float epsilon, Long n) {
  FOR_FLAT(i, n) {
    float p = parameter[i] * shrink;
    float g = gradient[i] + decay * parameter[i];
    float m = beta1 * mean[i] + rest1 * g;
    float s = beta2 * square[i] + rest2 * g * g;
    mean[i] = m;
    square[i] = s;
    parameter[i] = p - rate * (m / (sqrtf(s) / root2 + epsilon));
  }
}

// `velocity` is null without a momentum.
KERNEL sgd(float* parameter, const float* gradient, float* velocity, float rate, float momentum, float decay, int nesterov,
           Long n) {
  FOR_FLAT(i, n) {
    float change = gradient[i] + decay * parameter[i];
    if (velocity) {
      float v = momentum * velocity[i] + change;
      velocity[i] = v;
      change = nesterov ? change + momentum * v : v;
    }
    parameter[i] -= rate * change;
  }
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
