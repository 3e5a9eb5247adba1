// Max pool of x [n, h, w, c]. `at` is the place of the first maximum in its image, row times w plus column.

REAL_KERNEL(max_pool)(const Real* x, Real* y, int* at, Long m, int h, int w, int c, int output_h, int output_w, int kernel_h,
                int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(window, m) {
    int across = (int)(window % output_w) * stride_w - padding_w;
    int down = (int)(window / output_w % output_h) * stride_h - padding_h;
    Long image = window / output_w / output_h * h * w;
    float best = 0.0f;
    int place = -1;
    for (int i = down < 0 ? 0 : down; i < down + kernel_h && i < h; i++)
      for (int j = across < 0 ? 0 : across; j < across + kernel_w && j < w; j++) {
        float value = x[(image + i * w + j) * c + column];
        // The first maximum wins; NaN wins over everything, as in PyTorch.
        if (place < 0 || value > best || value != value) {
          best = value;
          place = i * w + j;
        }
      }
    y[window * c + column] = best;
    at[window * c + column] = place;
  }
}

// Every pixel takes the gradients of the windows it has won: no atomics.
REAL_KERNEL(max_pool_backward)(const Real* dy, const int* at, Real* dx, Long m, int h, int w, int c, int output_h, int output_w,
                         int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(pixel, m) {
    int j = (int)(pixel % w), i = (int)(pixel / w % h);
    Long image = pixel / w / h * output_h * output_w;
    int place = i * w + j;
    int top = i + padding_h - kernel_h + 1, left = j + padding_w - kernel_w + 1;
    int first_down = top <= 0 ? 0 : (top + stride_h - 1) / stride_h;
    int first_across = left <= 0 ? 0 : (left + stride_w - 1) / stride_w;
    float sum = 0.0f;
    for (int down = first_down; down < output_h && down * stride_h <= i + padding_h; down++)
      for (int across = first_across; across < output_w && across * stride_w <= j + padding_w; across++) {
        Long window = (image + down * output_w + across) * c + column;
        if (at[window] == place) sum += dy[window];
      }
    dx[pixel * c + column] = sum;
  }
}
