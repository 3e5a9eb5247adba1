// The losses on maps [n, h, w, c], and sums over all values.

// PyTorch's adaptive_avg_pool2d to m pixels in all: output i is over floor(i h / to_h) to ceil((i + 1) h / to_h) - 1.
KERNEL average(const float* x, float* y, Long m, int h, int w, int to_h, int to_w, int c) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(pixel, m) {
    int j = (int)(pixel % to_w), i = (int)(pixel / to_w % to_h);
    Long image = pixel / to_w / to_h * h * w;
    int top = i * h / to_h, bottom = ((i + 1) * h + to_h - 1) / to_h;
    int left = j * w / to_w, right = ((j + 1) * w + to_w - 1) / to_w;
    float sum = 0.0f;
    for (int row = top; row < bottom; row++)
      for (int place = left; place < right; place++) sum += x[(image + row * w + place) * c + column];
    y[pixel * c + column] = sum / (float)((bottom - top) * (right - left));
  }
}

// Its gradient with respect to the m pixels of x.
KERNEL average_backward(const float* dy, float* dx, Long m, int h, int w, int to_h, int to_w, int c) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(pixel, m) {
    int place = (int)(pixel % w), row = (int)(pixel / w % h);
    Long image = pixel / w / h * to_h * to_w;
    float sum = 0.0f;
    for (int i = row * to_h / h; i <= ((row + 1) * to_h - 1) / h; i++) {
      int tall = ((i + 1) * h + to_h - 1) / to_h - i * h / to_h;
      for (int j = place * to_w / w; j <= ((place + 1) * to_w - 1) / w; j++) {
        int wide = ((j + 1) * w + to_w - 1) / to_w - j * w / to_w;
        sum += dy[(image + i * to_w + j) * c + column] / (float)(tall * wide);
      }
    }
    dx[pixel * c + column] = sum;
  }
}

// The mean square of each row of x [rows, c].
KERNEL row_mean_squares(const float* x, float* y, int c) {
  __shared__ float shared[WIDE + 8];
  Long first = (Long)blockIdx.x * c;
  float square = 0.0f;
  for (int i = threadIdx.x; i < c; i += WIDE) square += x[first + i] * x[first + i];
  square = sum_block(square, shared);
  if (threadIdx.x == 0) y[blockIdx.x] = square / c;
}

// Every row of x [rows, c] times factor by[row].
KERNEL scale_rows(const float* x, const float* by, float factor, float* y, Long n, int c) {
  FOR_FLAT(i, n) y[i] = x[i] * (factor * by[i / c]);
}

// The sums of squares of blocks of x, or of x - b where b is not null, whose gradient `slope` (x - b) goes to dx: one number
// of each block.
KERNEL block_squares(const float* x, const float* b, float* dx, float slope, float* partial, Long n) {
  __shared__ float shared[WIDE + 8];
  float sum = 0.0f;
  FOR_FLAT(i, n) {
    float value = b ? x[i] - b[i] : x[i];
    if (dx) dx[i] = slope * value;
    sum += value * value;
  }
  sum = sum_block(sum, shared);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// factor times the sum of every row of x [rows, columns], in float64, or its root: [rows].
KERNEL finish_squares(const float* x, float* y, float factor, int root, int rows, int columns) {
  FOR_FLAT(row, rows) {
    double sum = 0.0;
    for (int i = 0; i < columns; i++) sum += x[row * columns + i];
    y[row] = (float)(root ? sqrt(sum) : factor * sum);
  }
}
