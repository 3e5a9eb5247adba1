// Vectors, statistics and parameters, which are float32 always; and what makes float32 of bfloat16 and back.

// The sums down partial [chunks, c].
KERNEL finish_sums(const float* partial, float* sums, int c, int chunks) {
  __shared__ double shared[ROWS][COLUMNS];
  int column = COLUMN;
  double sum = 0.0;
  if (column < c)
    for (int chunk = threadIdx.y; chunk < chunks; chunk += ROWS) sum += partial[(Long)chunk * c + column];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (column < c && threadIdx.y == 0) {
    for (int y = 1; y < ROWS; y++) sum += shared[y][threadIdx.x];
    sums[column] = (float)sum;
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

KERNEL scale(float* y, float factor, Long n) {
  FOR_FLAT(i, n) y[i] *= factor;
}

KERNEL shift(float* y, float by, Long n) {
  FOR_FLAT(i, n) y[i] += by;
}

// Running statistics.
KERNEL blend(float* target, const float* source, float keep, float take, Long n) {
  FOR_FLAT(i, n) target[i] = keep * target[i] + take * source[i];
}

// Rounded to the nearest, of two the even one.
KERNEL to_bf16(const float* x, Bfloat* y, Long n) {
  FOR_FLAT(i, n) y[i] = x[i];
}

KERNEL from_bf16(const Bfloat* x, float* y, Long n) {
  FOR_FLAT(i, n) y[i] = x[i];
}
