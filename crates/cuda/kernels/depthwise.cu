// Convolutions of every channel by itself.

// x [n, h, w, c], weight [taps, c], y [n, output_h, output_w, c] of m pixels.
REAL_KERNEL(depthwise)(const Real* x, const Real* weight, Real* y, Long m, int h, int w, int c, int output_h, int output_w,
                 int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w, int dilation_h,
                 int dilation_w) {
  int k = COLUMN;
  if (k >= c) return;
  FOR_ROWS(window, m) {
    int top = (int)(window / output_w % output_h) * stride_h - padding_h;
    int left = (int)(window % output_w) * stride_w - padding_w;
    Long image = window / output_w / output_h * h * w;
    float sum = 0.0f;
    for (int i = 0; i < kernel_h; i++)
      for (int j = 0; j < kernel_w; j++) {
        int row = top + i * dilation_h, column = left + j * dilation_w;
        if (row >= 0 && row < h && column >= 0 && column < w)
          sum += x[(image + row * w + column) * c + k] * weight[(i * kernel_w + j) * c + k];
      }
    y[window * c + k] = sum;
  }
}

// Its gradient with respect to x, of m pixels.
REAL_KERNEL(depthwise_backward_input)(const Real* dy, const Real* weight, Real* dx, Long m, int h, int w, int c, int output_h,
                                int output_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                                int padding_w, int dilation_h, int dilation_w) {
  int k = COLUMN;
  if (k >= c) return;
  FOR_ROWS(pixel, m) {
    int row = (int)(pixel / w % h) + padding_h, column = (int)(pixel % w) + padding_w;
    Long image = pixel / w / h * output_h * output_w;
    float sum = 0.0f;
    for (int i = 0; i < kernel_h; i++)
      for (int j = 0; j < kernel_w; j++) {
        int down = row - i * dilation_h, across = column - j * dilation_w;
        if (down < 0 || across < 0 || down % stride_h || across % stride_w) continue;
        down /= stride_h;
        across /= stride_w;
        if (down < output_h && across < output_w)
          sum += dy[(image + down * output_w + across) * c + k] * weight[(i * kernel_w + j) * c + k];
      }
    dx[pixel * c + k] = sum;
  }
}

// The sums of chunks of windows for the gradient with respect to the weight: partial [chunks, taps, c]. blockIdx.z is the
// tap.
REAL_KERNEL(depthwise_backward_weight)(const Real* x, const Real* dy, float* partial, Long m, Long chunk, int h, int w, int c,
                                 int output_h, int output_w, int kernel_h, int kernel_w, int stride_h, int stride_w,
                                 int padding_h, int padding_w, int dilation_h, int dilation_w) {
  __shared__ float shared[ROWS][COLUMNS];
  int k = COLUMN, tap = blockIdx.z;
  Long first = blockIdx.y * chunk, end = first + chunk < m ? first + chunk : m;
  float sum = 0.0f;
  if (k < c)
    for (Long window = first + threadIdx.y; window < end; window += ROWS) {
      int row = (int)(window / output_w % output_h) * stride_h + tap / kernel_w * dilation_h - padding_h;
      int column = (int)(window % output_w) * stride_w + tap % kernel_w * dilation_w - padding_w;
      Long image = window / output_w / output_h * h * w;
      if (row >= 0 && row < h && column >= 0 && column < w)
        sum += x[(image + row * w + column) * c + k] * dy[window * c + k];
    }
  sum = sum_rows(sum, shared);
  if (k < c && threadIdx.y == 0) partial[((Long)blockIdx.y * (kernel_h * kernel_w) + tap) * c + k] = sum;
}
