// Value by value, and copies into other places.

KERNEL fill(float* y, float value, Long n) {
  FOR_FLAT(i, n) y[i] = value;
}

// `y` may be `a`.
KERNEL add(const float* a, const float* b, float* y, Long n) {
  FOR_FLAT(i, n) y[i] = a[i] + b[i];
}

KERNEL scale(float* y, float factor, Long n) {
  FOR_FLAT(i, n) y[i] *= factor;
}

KERNEL shift(float* y, float by, Long n) {
  FOR_FLAT(i, n) y[i] += by;
}

KERNEL activate(int kind, const float* x, float* y, Long n) {
  FOR_FLAT(i, n) y[i] = activation(kind, x[i]);
}

KERNEL activate_backward(int kind, const float* x, const float* dy, float* dx, Long n) {
  FOR_FLAT(i, n) dx[i] = activation_gradient(kind, x[i], dy[i]);
}

// Running statistics.
KERNEL blend(float* target, const float* source, float keep, float take, Long n) {
  FOR_FLAT(i, n) target[i] = keep * target[i] + take * source[i];
}

// `columns` columns of x [rows, x_columns], from `x_first`, to those of y [rows, y_columns] from `y_first`.
KERNEL copy_columns(const float* x, Long x_columns, Long x_first, float* y, Long y_columns, Long y_first, Long columns,
                    Long rows) {
  FOR_FLAT(i, rows * columns) {
    Long row = i / columns, column = i % columns;
    y[row * y_columns + y_first + column] = x[row * x_columns + x_first + column];
  }
}

// x [batch, rows, columns] to y [batch, columns, rows], by tiles of 32 x 32.
KERNEL transpose(const float* x, float* y, int rows, int columns) {
  __shared__ float tile[COLUMNS][COLUMNS + 1];
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
