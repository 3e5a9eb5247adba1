// Max pool of x [n, h, w, c]. `at` is the place of the first maximum in its image, row times w plus column.

REAL_KERNEL(max_pool)(const Real* x, Real* y, int* at, Long m, int h, int w, int c, int output_h, int output_w, int kernel_h,
                int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(window, m) {
    auto value = [&](Long pixel) { return (float)x[pixel * c + column]; };
    Maximum best = first_maximum(value, window, h, w, output_h, output_w, kernel_h, kernel_w, stride_h, stride_w, padding_h,
                                 padding_w);
    y[window * c + column] = best.value;
    at[window * c + column] = best.place;
  }
}

// Max pool of activation((x - mean) rstd weight + bias), which is not kept; `won` has the x of the maxima.
REAL_KERNEL(batch_norm_max_pool)(const Real* x, const float* mean, const float* rstd, const float* weight, const float* bias,
                           int kind, Real* y, Real* won, int* at, Long m, int h, int w, int c, int output_h, int output_w,
                           int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w) {
  int column = COLUMN;
  if (column >= c) return;
  float middle = mean[column], factor = rstd[column] * weight[column], add = bias[column];
  FOR_ROWS(window, m) {
    auto value = [&](Long pixel) { return activation(kind, (x[pixel * c + column] - middle) * factor + add); };
    Maximum best = first_maximum(value, window, h, w, output_h, output_w, kernel_h, kernel_w, stride_h, stride_w, padding_h,
                                 padding_w);
    y[window * c + column] = best.value;
    won[window * c + column] = x[(window / output_w / output_h * h * w + best.place) * c + column];
    at[window * c + column] = best.place;
  }
}

// The gradients of the windows that a pixel has won: no atomics.
__device__ float won_gradients(const Real* dy, const int* at, Long pixel, int column, int h, int w, int c, int output_h,
                               int output_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                               int padding_w) {
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
  return sum;
}

// The gradient of `max_pool`.
REAL_KERNEL(max_pool_backward)(const Real* dy, const int* at, Real* dx, Long m, int h, int w, int c, int output_h, int output_w,
                         int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h, int padding_w) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(pixel, m)
    dx[pixel * c + column] = won_gradients(dy, at, pixel, column, h, w, c, output_h, output_w, kernel_h, kernel_w, stride_h,
                                           stride_w, padding_h, padding_w);
}

// That of `batch_norm_max_pool`; dbias and dweight are the sums over what has won.
REAL_KERNEL(batch_norm_max_pool_backward)(const Real* x, const Real* dy, const int* at, const float* mean, const float* rstd,
                                    const float* weight, const float* bias, int kind, const float* dbias,
                                    const float* dweight, float share, Real* dx, Long m, int h, int w, int c, int output_h,
                                    int output_w, int kernel_h, int kernel_w, int stride_h, int stride_w, int padding_h,
                                    int padding_w) {
  int column = COLUMN;
  if (column >= c) return;
  float middle = mean[column], factor = rstd[column], by = weight[column], add = bias[column];
  float flat = share * dbias[column], slope = share * dweight[column];
  FOR_ROWS(pixel, m) {
    Long i = pixel * c + column;
    float z = (x[i] - middle) * factor;
    float won = won_gradients(dy, at, pixel, column, h, w, c, output_h, output_w, kernel_h, kernel_w, stride_h, stride_w,
                              padding_h, padding_w);
    float g = activation_gradient(kind, z * by + add, won);
    dx[i] = by * factor * (g - (flat + z * slope));
  }
}
