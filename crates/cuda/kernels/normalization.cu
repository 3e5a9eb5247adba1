// Batch and layer normalisation; the formulas are at the head of nn/portable/normalization.rs in rkd-core.

// Mean and sum of squared deviations of chunks of rows of x [m, c]: [chunks, c] each. Two passes over a chunk, the second
// in the cache, lose no digits where the mean is large.
REAL_KERNEL(chunk_statistics)(const Real* x, float* means, float* squares, Long m, int c, Long chunk) {
  __shared__ float shared[ROWS][COLUMNS];
  int column = COLUMN;
  Long first = blockIdx.y * chunk, end = first + chunk < m ? first + chunk : m;
  float sum = 0.0f;
  if (column < c)
    for (Long row = first + threadIdx.y; row < end; row += ROWS) sum += x[row * c + column];
  float mean = sum_rows(sum, shared) / (float)(end - first);
  float square = 0.0f;
  if (column < c)
    for (Long row = first + threadIdx.y; row < end; row += ROWS) {
      float deviation = x[row * c + column] - mean;
      square += deviation * deviation;
    }
  square = sum_rows(square, shared);
  if (column < c && threadIdx.y == 0) {
    means[(Long)blockIdx.y * c + column] = mean;
    squares[(Long)blockIdx.y * c + column] = square;
  }
}

// y = activation((x - mean) rstd weight + bias + residual).
REAL_KERNEL(batch_norm)(const Real* x, const float* mean, const float* rstd, const float* weight, const float* bias,
                  const Real* residual, int kind, Real* y, Long m, int c) {
  int column = COLUMN;
  if (column >= c) return;
  float middle = mean[column], factor = rstd[column] * weight[column], add = bias[column];
  FOR_ROWS(row, m) {
    Long i = row * c + column;
    float value = (x[i] - middle) * factor + add;
    if (residual) value += residual[i];
    y[i] = activation(kind, value);
  }
}

// What of dy passes the activation: by its output y where that is not null, else by its input, which is computed again.
__device__ float passed(int kind, const Real* y, Long i, float z, float weight, float bias, float dy) {
  if (kind == 0) return dy;
  return activation_gradient(kind, y ? y[i] : z * weight + bias, dy);
}

// Of chunks of rows the sums of g and of g z, [chunks, c] each.
REAL_KERNEL(chunk_gradients)(const Real* x, const Real* y, const Real* dy, const float* mean, const float* rstd,
                       const float* weight, const float* bias, int kind, float* dbias, float* dweight, Long m, int c,
                       Long chunk) {
  __shared__ float shared[ROWS][COLUMNS];
  int column = COLUMN;
  Long first = blockIdx.y * chunk, end = first + chunk < m ? first + chunk : m;
  float sum = 0.0f, along = 0.0f;
  if (column < c) {
    float middle = mean[column], factor = rstd[column], by = weight[column], add = bias ? bias[column] : 0.0f;
    for (Long row = first + threadIdx.y; row < end; row += ROWS) {
      Long i = row * c + column;
      float z = (x[i] - middle) * factor;
      float g = passed(kind, y, i, z, by, add, dy[i]);
      sum += g;
      along += g * z;
    }
  }
  sum = sum_rows(sum, shared);
  along = sum_rows(along, shared);
  if (column < c && threadIdx.y == 0) {
    dbias[(Long)blockIdx.y * c + column] = sum;
    dweight[(Long)blockIdx.y * c + column] = along;
  }
}

// dx, and g as the residual's gradient where `dresidual` is not null; `share` is 1 / m, or 0 where the statistics were given.
REAL_KERNEL(batch_norm_backward)(const Real* x, const Real* y, const Real* dy, const float* mean, const float* rstd,
                           const float* weight, const float* bias, int kind, const float* dbias, const float* dweight,
                           float share, Real* dx, Real* dresidual, Long m, int c) {
  int column = COLUMN;
  if (column >= c) return;
  float middle = mean[column], factor = rstd[column], by = weight[column], add = bias ? bias[column] : 0.0f;
  float flat = share * dbias[column], slope = share * dweight[column];
  FOR_ROWS(row, m) {
    Long i = row * c + column;
    float z = (x[i] - middle) * factor;
    float g = passed(kind, y, i, z, by, add, dy[i]);
    if (dresidual) dresidual[i] = g;
    dx[i] = by * factor * (g - (flat + z * slope));
  }
}

// Rows of x [rows, c] with mean 0 and variance 1, times weight, plus bias.
REAL_KERNEL(layer_norm)(const Real* x, const float* weight, const float* bias, float epsilon, Real* y, float* mean, float* rstd,
                  int c) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * c;
  float sum = 0.0f;
  for (int i = threadIdx.x; i < c; i += WIDE) sum += x[first + i];
  float middle = sum_block(sum, shared) / c;
  float square = 0.0f;
  for (int i = threadIdx.x; i < c; i += WIDE) square += (x[first + i] - middle) * (x[first + i] - middle);
  float factor = 1.0f / sqrtf(sum_block(square, shared) / c + epsilon);
  for (int i = threadIdx.x; i < c; i += WIDE) y[first + i] = (x[first + i] - middle) * factor * weight[i] + bias[i];
  if (threadIdx.x == 0) {
    mean[blockIdx.x] = middle;
    rstd[blockIdx.x] = factor;
  }
}

// dx plus `added`, where it is not null.
REAL_KERNEL(layer_norm_backward)(const Real* x, const float* weight, const float* mean, const float* rstd, const Real* dy,
                           const Real* added, Real* dx, int c) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * c;
  float middle = mean[blockIdx.x], factor = rstd[blockIdx.x];
  float sum = 0.0f, along = 0.0f;
  for (int i = threadIdx.x; i < c; i += WIDE) {
    float g = dy[first + i] * weight[i];
    sum += g;
    along += g * (x[first + i] - middle) * factor;
  }
  sum = sum_block(sum, shared) / c;
  along = sum_block(along, shared) / c;
  for (int i = threadIdx.x; i < c; i += WIDE) {
    float z = (x[first + i] - middle) * factor;
    float value = factor * (dy[first + i] * weight[i] - sum - z * along);
    dx[first + i] = added ? value + added[first + i] : value;
  }
}

// (x - mean) rstd of every row: what the gradient of the weight is summed with.
REAL_KERNEL(standardize_rows)(const Real* x, const float* mean, const float* rstd, float* z, Long n, int c) {
  FOR_FLAT(i, n) z[i] = (x[i] - mean[i / c]) * rstd[i / c];
}
