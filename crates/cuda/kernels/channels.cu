// Matrices [m, c] of pixels and channels: what is added and multiplied by channel, and sums over pixels.
//
// A sum over pixels is taken in chunks of rows, each by one block into a row of `partial`, which `finish_sums` adds up in
// float64: two launches, no atomics.

// y = activation(y + bias + residual), either left out where it is null.
REAL_KERNEL(finish)(Real* y, const float* bias, const Real* residual, int kind, Long m, int c) {
  int column = COLUMN;
  if (column >= c) return;
  float add = bias ? bias[column] : 0.0f;
  FOR_ROWS(row, m) {
    Long i = row * c + column;
    float value = y[i] + add;
    if (residual) value += residual[i];
    y[i] = activation(kind, value);
  }
}

// The sums of chunks of rows of x, or of x times `other` where it is not null: partial [chunks, c].
REAL_KERNEL(chunk_sums)(const Real* x, const float* other, float* partial, Long m, int c, Long chunk) {
  __shared__ float shared[ROWS][COLUMNS];
  int column = COLUMN;
  Long first = blockIdx.y * chunk, end = first + chunk < m ? first + chunk : m;
  float sum = 0.0f;
  if (column < c)
    for (Long row = first + threadIdx.y; row < end; row += ROWS) {
      float value = x[row * c + column];
      sum += other ? value * other[row * c + column] : value;
    }
  sum = sum_rows(sum, shared);
  if (column < c && threadIdx.y == 0) partial[(Long)blockIdx.y * c + column] = sum;
}

// factor times the sum over the pixels of each image of x [n, pixels, c], or of x times `other`: [n, c]. A block is of one
// image.
REAL_KERNEL(image_sums)(const Real* x, const Real* other, float* sums, int pixels, int c, float factor) {
  __shared__ float shared[ROWS][COLUMNS];
  int column = COLUMN;
  Long image = (Long)blockIdx.y * pixels * c;
  float sum = 0.0f;
  if (column < c)
    for (int pixel = threadIdx.y; pixel < pixels; pixel += ROWS) {
      Long i = image + (Long)pixel * c + column;
      sum += other ? x[i] * other[i] : x[i];
    }
  sum = sum_rows(sum, shared);
  if (column < c && threadIdx.y == 0) sums[(Long)blockIdx.y * c + column] = factor * sum;
}

// y = x gate + factor added, of which x, gate [n, c] and added [n, c] are left out where they are null.
REAL_KERNEL(by_image)(const Real* x, const float* gate, const float* added, float factor, Real* y, Long m, int pixels, int c) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(row, m) {
    Long i = row * c + column, place = row / pixels * c + column;
    float value = x ? x[i] * gate[place] : 0.0f;
    if (added) value += factor * added[place];
    y[i] = value;
  }
}
