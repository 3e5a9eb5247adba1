// Tokens and attention; its products are cuBLAS's.

// x [n, tokens - 1, c] behind a class token [c], plus position [tokens, c].
REAL_KERNEL(add_tokens)(const Real* x, const float* first, const float* position, Real* y, Long n, Long tokens, int c) {
  FOR_FLAT(i, n * tokens * c) {
    Long k = i % c, token = i / c % tokens, image = i / c / tokens;
    float value = token == 0 ? first[k] : (float)x[(image * (tokens - 1) + token - 1) * c + k];
    y[i] = value + position[token * c + k];
  }
}

// y = softmax(factor x) along each row of x [rows, t], whose values go. `y` may be `x`.
REAL_KERNEL(softmax)(float* x, Real* y, float factor, int t) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * t;
  float largest = x[first];
  for (int i = threadIdx.x; i < t; i += WIDE) largest = fmaxf(largest, x[first + i]);
  largest = max_block(largest, shared);
  float sum = 0.0f;
  for (int i = threadIdx.x; i < t; i += WIDE) {
    x[first + i] = expf(factor * (x[first + i] - largest));
    sum += x[first + i];
  }
  sum = sum_block(sum, shared);
  for (int i = threadIdx.x; i < t; i += WIDE) y[first + i] = x[first + i] / sum;
}

// Its gradient from its output y. `dx` may be `dy`.
REAL_KERNEL(softmax_backward)(const Real* y, const float* dy, Real* dx, float factor, int t) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * t;
  float along = 0.0f;
  for (int i = threadIdx.x; i < t; i += WIDE) along += y[first + i] * dy[first + i];
  along = sum_block(along, shared);
  for (int i = threadIdx.x; i < t; i += WIDE) dx[first + i] = factor * y[first + i] * (dy[first + i] - along);
}
