// Value by value, and copies into other places.

REAL_KERNEL(fill)(Real* y, float value, Long n) {
  FOR_FLAT(i, n) y[i] = value;
}

// `y` may be `a`.
REAL_KERNEL(add)(const Real* a, const Real* b, Real* y, Long n) {
  FOR_FLAT(i, n) y[i] = a[i] + b[i];
}

REAL_KERNEL(activate)(int kind, const Real* x, Real* y, Long n) {
  FOR_FLAT(i, n) y[i] = activation(kind, x[i]);
}

REAL_KERNEL(activate_backward)(int kind, const Real* x, const Real* dy, Real* dx, Long n) {
  FOR_FLAT(i, n) dx[i] = activation_gradient(kind, x[i], dy[i]);
}

// `columns` columns of x [rows, x_columns], from `x_first`, to those of y [rows, y_columns] from `y_first`.
REAL_KERNEL(copy_columns)(const Real* x, Long x_columns, Long x_first, Real* y, Long y_columns, Long y_first, Long columns,
                          Long rows) {
  FOR_FLAT(i, rows * columns) {
    Long row = i / columns, column = i % columns;
    y[row * y_columns + y_first + column] = x[row * x_columns + x_first + column];
  }
}

// x [batch, rows, columns] to y [batch, columns, rows], by tiles of 32 x 32.
REAL_KERNEL(transpose)(const Real* x, Real* y, int rows, int columns) {
  __shared__ Real tile[COLUMNS][COLUMNS + 1];
  Long matrix = (Long)blockIdx.z * rows * columns;
  int left = blockIdx.x * COLUMNS, top = blockIdx.y * COLUMNS;
  for (int i = threadIdx.y; i < COLUMNS; i += ROWS) {
    int row = top + i, column = left + threadIdx.x;
    if (row < rows && column < columns) tile[i][threadIdx.x] = x[matrix + (Long)row * columns + column];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < COLUMNS; i += ROWS) {
    int row = left + i, column = top + threadIdx.x;
    if (row < columns && column < rows) y[matrix + (Long)row * rows + column] = tile[threadIdx.x][i];
  }
}

// x [n, h, w, c] with rows and columns of zeros behind, or without some of them: y [n, to_h, to_w, c], m its pixels.
REAL_KERNEL(resize_map)(const Real* x, Real* y, Long m, int h, int w, int to_h, int to_w, int c) {
  int column = COLUMN;
  if (column >= c) return;
  FOR_ROWS(pixel, m) {
    int j = (int)(pixel % to_w), i = (int)(pixel / to_w % to_h);
    Long image = pixel / to_w / to_h * h * w;
    y[pixel * c + column] = i < h && j < w ? x[(image + i * w + j) * c + column] : 0.0f;
  }
}
