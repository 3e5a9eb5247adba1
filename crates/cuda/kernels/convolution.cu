// Convolutions that cuDNN does not take: by columns and a matrix product.

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
