// Convolutions that cuDNN does not take: by columns and a matrix product, and depthwise ones directly.

// x [n, h, w, c] with rows and columns of zeros behind, or without some of them: y [n, to_h, to_w, c], m its pixels.
KERNEL resize_map(const float* x, float* y, Long m, int h, int w, int to_h, int to_w, int c) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(pixel, m) {
    int j = (int)(pixel % to_w), i = (int)(pixel / to_w % to_h);
    Long image = pixel / to_w / to_h * h * w;
    y[pixel * c + column] = i < h && j < w ? x[(image + i * w + j) * c + column] : 0.0f;
  }
}

// The pixels of every window side by side: x [., h, w, c_all], of which c channels from `channel`, to columns [m, taps, c].
// m windows from `first` on.
KERNEL columns_of(const float* x, float* columns, Long first, Long m, int h, int w, int c_all, int channel, int c,
                  int output_h, int output_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                  int padding_w, int dilation_h, int dilation_w) {
  int taps = kernel_h * kernel_w;
  FOR_FLAT(i, m * taps * c) {
    int k = (int)(i % c), tap = (int)(i / c % taps);
    Long window = first + i / c / taps;
    int row = (int)(window / output_w % output_h) * stride_h + tap / kernel_w * dilation_h - padding_h;
    int column = (int)(window % output_w) * stride_w + tap % kernel_w * dilation_w - padding_w;
    Long image = window / output_w / output_h * h * w;
    bool inside = row >= 0 && row < h && column >= 0 && column < w;
    columns[i] = inside ? x[(image + row * w + column) * c_all + channel + k] : 0.0f;
  }
}

// The transpose: every pixel of m from `first` on adds up what its windows have of it. Those pixels are whole images, and
// `columns` begins with the windows of the first of them.
KERNEL pixels_of(const float* columns, float* x, Long first, Long m, int h, int w, int c_all, int channel, int c,
                 int output_h, int output_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                 int padding_w, int dilation_h, int dilation_w) {
  int taps = kernel_h * kernel_w;
  FOR_FLAT(i, m * c) {
    int k = (int)(i % c);
    Long pixel = i / c;
    int row = (int)(pixel / w % h) + padding_h, column = (int)(pixel % w) + padding_w;
    Long image = pixel / w / h * output_h * output_w;
    float sum = 0.0f;
    for (int tap = 0; tap < taps; tap++) {
      int down = row - tap / kernel_w * dilation_h, across = column - tap % kernel_w * dilation_w;
      if (down < 0 || across < 0 || down % stride_h || across % stride_w) continue;
      down /= stride_h;
      across /= stride_w;
      if (down < output_h && across < output_w)
        sum += columns[((image + down * output_w + across) * taps + tap) * c + k];
    }
    x[(first + pixel) * c_all + channel + k] = sum;
  }
}

// Every channel by its own filter: x [n, h, w, c], weight [taps, c], y [n, output_h, output_w, c] of m pixels.
KERNEL depthwise(const float* x, const float* weight, float* y, Long m, int h, int w, int c, int output_h, int output_w,
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
KERNEL depthwise_backward_input(const float* dy, const float* weight, float* dx, Long m, int h, int w, int c, int output_h,
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
KERNEL depthwise_backward_weight(const float* x, const float* dy, float* partial, Long m, Long chunk, int h, int w, int c,
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
