// What every kernel uses. The same text is compiled by nvcc for the GPU and, behind twin.h, by a C++ compiler for the
// CPU twin of the tests: threads of a block work together by shared memory and __syncthreads alone, all of them reach every
// barrier, and there are no warp intrinsics and no atomics. Sums are taken in a fixed order, so the same inputs give the
// same bits.
//
// Arithmetic is float32 (float64 where it is said), whatever kind of numbers is read and written.
//
// A matrix [rows, columns] is row-major; an activation [n, h, w, c] is one of n h w rows. "Flat" kernels run over n values
// in blocks of 256 threads; "column" kernels in blocks of 32 columns by 8 rows, so that a warp reads neighbouring channels
// and a thread keeps its channel; "row" kernels take a block of 128 threads for each row.
#pragma once

typedef long long Long;

// Bfloat16: the first half of the bits of a float32. It is read as the float that it is, and written rounded to the nearest, of two
// the even one; NaN stays NaN.
struct Bfloat {
  unsigned short bits;

  MEMBER operator float() const { return __uint_as_float((unsigned)bits << 16); }
  MEMBER Bfloat& operator=(float value) {
    unsigned all = __float_as_uint(value);
    bits = (unsigned short)(value != value ? 0x7fc0 : (all + 0x7fff + (all >> 16 & 1)) >> 16);
    return *this;
  }
};

#define COLUMNS 32
#define ROWS 8
#define WIDE 128

// Every i < n, with any number of blocks.
#define FOR_FLAT(i, n) \
  for (Long i = (Long)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (Long)gridDim.x * blockDim.x)

// Every row of the thread's column, with any number of blocks down.
#define FOR_ROWS(row, rows) \
  for (Long row = (Long)blockIdx.y * ROWS + threadIdx.y; row < (rows); row += (Long)gridDim.y * ROWS)

// The thread's column.
#define COLUMN ((int)(blockIdx.x * COLUMNS + threadIdx.x))

// The sum over the block's rows of threads, the same for all of a column.
__device__ float sum_rows(float value, float (*shared)[COLUMNS]) {
  __syncthreads();
  shared[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
  float sum = 0.0f;
  for (int y = 0; y < ROWS; y++) sum += shared[y][threadIdx.x];
  return sum;
}

// The sum over a block of WIDE threads, the same for all of them. `shared` holds WIDE + 8 values.
template <class Number> __device__ Number sum_block(Number value, Number* shared) {
  __syncthreads();
  shared[threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x < 8) {
    Number part = 0;
    for (int i = 0; i < WIDE / 8; i++) part += shared[i * 8 + threadIdx.x];
    shared[WIDE + threadIdx.x] = part;
  }
  __syncthreads();
  Number sum = 0;
  for (int i = 0; i < 8; i++) sum += shared[WIDE + i];
  return sum;
}

// The maximum over a block of WIDE threads; NaN is not seen.
__device__ float max_block(float value, float* shared) {
  __syncthreads();
  shared[threadIdx.x] = value;
  __syncthreads();
  if (threadIdx.x < 8) {
    float part = shared[threadIdx.x];
    for (int i = 1; i < WIDE / 8; i++) part = fmaxf(part, shared[i * 8 + threadIdx.x]);
    shared[WIDE + threadIdx.x] = part;
  }
  __syncthreads();
  float largest = shared[WIDE];
  for (int i = 1; i < 8; i++) largest = fmaxf(largest, shared[WIDE + i]);
  return largest;
}

__device__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The probability that a standard normal number is below x, without the loss of digits of 1 + erf(x) far below 0.
__device__ float normal_below(float x) { return 0.5f * erfcf(-x * 0.70710678f); }

// max(lowest, min(x, highest)); NaN stays NaN.
__device__ float within(float lowest, float highest, float x) {
  return x < lowest ? lowest : x > highest ? highest : x;
}

// The kinds are those of rkd-kernels, in its order, from 1; 0 is none.
__device__ float activation(int kind, float x) {
  switch (kind) {
    case 1: return x < 0.0f ? 0.0f : x;
    case 2: return within(0.0f, 6.0f, x);
    case 3: return x * within(0.0f, 6.0f, x + 3.0f) * (1.0f / 6.0f);
    case 4: return x * sigmoid(x);
    case 5: return within(0.0f, 6.0f, x + 3.0f) * (1.0f / 6.0f);
    case 6: return sigmoid(x);
    case 7: return x * normal_below(x);
    default: return x;
  }
}

// g times the slope at x; of a ReLU its output does for x too.
__device__ float activation_gradient(int kind, float x, float g) {
  switch (kind) {
    case 1: return x > 0.0f ? g : 0.0f;
    case 2: return x > 0.0f && x < 6.0f ? g : 0.0f;
    case 3: return x >= 3.0f ? g : x > -3.0f ? g * (x * (1.0f / 3.0f) + 0.5f) : 0.0f;
    case 4: {
      float y = sigmoid(x);
      return g * y * (1.0f + x * (1.0f - y));
    }
    case 5: return x > -3.0f && x < 3.0f ? g * (1.0f / 6.0f) : 0.0f;
    case 6: {
      float y = sigmoid(x);
      return g * y * (1.0f - y);
    }
    case 7: return g * (normal_below(x) + x * expf(-0.5f * x * x) * 0.39894228f);
    default: return g;
  }
}

// The first maximum of a window, and its place in its image: row times w plus column.
struct Maximum {
  float value;
  int place;
};

// That of value(pixel) over a window of images of h x w pixels. NaN wins over everything, as in PyTorch.
template <class Value>
__device__ Maximum first_maximum(Value value, Long window, int h, int w, int output_h, int output_w, int kernel_h, int kernel_w,
                                 int stride_h, int stride_w, int padding_h, int padding_w) {
  int across = (int)(window % output_w) * stride_w - padding_w;
  int down = (int)(window / output_w % output_h) * stride_h - padding_h;
  Long image = window / output_w / output_h * h * w;
  Maximum best = {0.0f, -1};
  for (int i = down < 0 ? 0 : down; i < down + kernel_h && i < h; i++)
    for (int j = across < 0 ? 0 : across; j < across + kernel_w && j < w; j++) {
      float found = value(image + i * w + j);
      if (best.place < 0 || found > best.value || found != found) best = {found, i * w + j};
    }
  return best;
}
