// Batch, layer and L2 normalisation; the formulas are at the head of nn/portable/normalization.rs in rkd-core.

// Mean and sum of squared deviations of chunks of rows of x [m, c]: [chunks, c] each. Two passes over a chunk, the second
// in the cache, lose no digits where the mean is large.
KERNEL chunk_statistics(const float* x, float* means, float* squares, Long m, int c, Long chunk) {
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

// Mean, biased variance and 1 / sqrt(variance + epsilon) of all m rows from those of chunks (Chan et al. 1979).
KERNEL finish_statistics(const float* means, const float* squares, float* mean, float* variance, float* rstd, Long m, int c,
                         Long chunk, int chunks, float epsilon) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= c) return;
  double count = 0.0, middle = 0.0, square = 0.0;
  for (int k = 0; k < chunks; k++) {
    Long left = m - k * chunk;
    double more = (double)(left < chunk ? left : chunk);
    double apart = means[(Long)k * c + column] - middle;
    square += squares[(Long)k * c + column] + apart * apart * count * more / (count + more);
    middle += apart * more / (count + more);
    count += more;
  }
  mean[column] = (float)middle;
  variance[column] = (float)(square / count);
  rstd[column] = (float)(1.0 / sqrt(square / count + (double)epsilon));
}

// 1 / sqrt(variance + epsilon).
KERNEL rstd_of(const float* variance, float* rstd, float epsilon, Long n) {
  FOR_FLAT(i, n) rstd[i] = 1.0f / sqrtf(variance[i] + epsilon);
}

// y = activation((x - mean) rstd weight + bias + residual).
KERNEL batch_norm(const float* x, const float* mean, const float* rstd, const float* weight, const float* bias,
                  const float* residual, int kind, float* y, Long m, int c) {
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
__device__ float passed(int kind, const float* y, Long i, float z, float weight, float bias, float dy) {
  if (kind == 0) return dy;
  return activation_gradient(kind, y ? y[i] : z * weight + bias, dy);
}

// Of chunks of rows the sums of g and of g z, [chunks, c] each.
KERNEL chunk_gradients(const float* x, const float* y, const float* dy, const float* mean, const float* rstd,
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
KERNEL batch_norm_backward(const float* x, const float* y, const float* dy, const float* mean, const float* rstd,
                           const float* weight, const float* bias, int kind, const float* dbias, const float* dweight,
                           float share, float* dx, float* dresidual, Long m, int c) {
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
KERNEL layer_norm(const float* x, const float* weight, const float* bias, float epsilon, float* y, float* mean, float* rstd,
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
KERNEL layer_norm_backward(const float* x, const float* weight, const float* mean, const float* rstd, const float* dy,
                           const float* added, float* dx, int c) {
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
KERNEL standardize_rows(const float* x, const float* mean, const float* rstd, float* z, Long n, int c) {
  FOR_FLAT(i, n) z[i] = (x[i] - mean[i / c]) * rstd[i / c];
}

// PyTorch's smallest norm.
#define SMALLEST_NORM 1e-12f

// Rows divided by max(norm, 1e-12), and the norms.
KERNEL l2_normalize(const float* x, float* y, float* norm, int d) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * d;
  float square = 0.0f;
  for (int i = threadIdx.x; i < d; i += WIDE) square += x[first + i] * x[first + i];
  float length = sqrtf(sum_block(square, shared));
  // Written so that a NaN divides.
  float divisor = length < SMALLEST_NORM ? SMALLEST_NORM : length;
  for (int i = threadIdx.x; i < d; i += WIDE) y[first + i] = x[first + i] / divisor;
  if (threadIdx.x == 0) norm[blockIdx.x] = length;
}

// dx = (dy - y (y . dy)) / norm; below the smallest norm the divisor is a constant, and dx = dy / 1e-12.
KERNEL l2_normalize_backward(const float* y, const float* norm, const float* dy, float* dx, int d) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * d;
  float along = 0.0f;
  for (int i = threadIdx.x; i < d; i += WIDE) along += y[first + i] * dy[first + i];
  along = sum_block(along, shared);
  float length = norm[blockIdx.x];
  bool small = length <= SMALLEST_NORM;
  float divisor = small ? SMALLEST_NORM : length;
  for (int i = threadIdx.x; i < d; i += WIDE)
    dx[first + i] = (dy[first + i] - (small ? 0.0f : y[first + i] * along)) / divisor;
}
