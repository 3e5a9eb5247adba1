// The relational losses (Park et al. 2019) with their gradients, in float64: the law of cosines and the differences of near
// neighbours cancel in float32. The maths is at the heads of relations/distance.rs and relations/angle.rs in rkd-kernels, whose
// sums these are; matrices [n, n] are over pairs of items, and a gradient m over the squared distances D is given for ordered
// pairs: (i, j) and (j, i) add up.

#define TILE 16
// Vertices, or first rows of edges, of a thread: what it reads of a column serves them all.
#define EACH 4

// Smallest distance of different items, the authors' guard.
#define SMALLEST_DISTANCE 1e-6

// D of the rows of x [n, d].
KERNEL squared_distances(const float* x, double* squared, int n, int d) {
  __shared__ float own[TILE][TILE + 1], others[TILE][TILE + 1];
  int i = blockIdx.y * TILE + threadIdx.y, j = blockIdx.x * TILE + threadIdx.x, row = blockIdx.x * TILE + threadIdx.y;
  double sum = 0.0;
  for (int first = 0; first < d; first += TILE) {
    int k = first + threadIdx.x;
    __syncthreads();
    own[threadIdx.y][threadIdx.x] = i < n && k < d ? x[(Long)i * d + k] : 0.0f;
    others[threadIdx.y][threadIdx.x] = row < n && k < d ? x[(Long)row * d + k] : 0.0f;
    __syncthreads();
    for (int place = 0; place < TILE; place++) {
      double apart = (double)own[threadIdx.y][place] - others[threadIdx.x][place];
      sum += apart * apart;
    }
  }
  if (i < n && j < n) squared[(Long)i * n + j] = sum;
}

__device__ double guarded(double squared) { return fmax(sqrt(squared), SMALLEST_DISTANCE); }

// Of each row the sum of the guarded distances to the other items: [n].
KERNEL row_distances(const double* squared, double* sums, int n) {
  __shared__ double shared[WIDE + 8];
  int i = blockIdx.x;
  double sum = 0.0;
  for (int j = threadIdx.x; j < n; j += WIDE)
    if (j != i) sum += guarded(squared[(Long)i * n + j]);
  sum = sum_block(sum, shared);
  if (threadIdx.x == 0) sums[i] = sum;
}

// The sum of n numbers, the same in every thread of a block of WIDE.
__device__ double sum_all(const double* x, int n, double* shared) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < n; i += WIDE) sum += x[i];
  return sum_block(sum, shared);
}

// Huber's slope q, the derivative of huber(x) = q (x - q / 2).
__device__ double slope_of(double x, double delta) { return fmin(fmax(x, -delta), delta); }

// Of each row the sums of huber(x) and of q b, and q itself, where b are the student's distances over their mean, x is b less the
// teacher's and `sums` are those of `row_distances`.
KERNEL distance_slopes(const double* student, const double* teacher, const double* student_sums, const double* teacher_sums,
                       double delta, double* slopes, double* values, double* along, int n) {
  __shared__ double shared[WIDE + 8];
  int i = blockIdx.x;
  double pairs = (double)n * (n - 1);
  double student_scale = pairs / sum_all(student_sums, n, shared);
  double teacher_scale = pairs / sum_all(teacher_sums, n, shared);
  double value = 0.0, sum = 0.0;
  for (int j = threadIdx.x; j < n; j += WIDE) {
    Long place = (Long)i * n + j;
    double q = 0.0;
    if (j != i) {
      double b = student_scale * guarded(student[place]);
      double x = b - teacher_scale * guarded(teacher[place]);
      q = slope_of(x, delta);
      value += q * (x - 0.5 * q);
      sum += q * b;
    }
    slopes[place] = q;
  }
  value = sum_block(value, shared);
  sum = sum_block(sum, shared);
  if (threadIdx.x == 0) {
    values[i] = value;
    along[i] = sum;
  }
}

// The gradient in the place of the slopes.
KERNEL distance_gradient(const double* student, const double* student_sums, const double* along, double* slopes, int n) {
  __shared__ double shared[WIDE + 8];
  int i = blockIdx.x;
  double pairs = (double)n * (n - 1);
  double scale = pairs / sum_all(student_sums, n, shared), shift = sum_all(along, n, shared) / pairs;
  for (int j = threadIdx.x; j < n; j += WIDE) {
    Long place = (Long)i * n + j;
    double root = sqrt(student[place]);
    slopes[place] = j != i && root > SMALLEST_DISTANCE ? (slopes[place] - shift) * scale / (2.0 * root) : 0.0;
  }
}

// l = sqrt(D), and r = 1 / l, 0 where D is 0.
KERNEL lengths(const double* squared, double* length, double* inverse, Long n) {
  FOR_FLAT(i, n) {
    double root = sqrt(squared[i]);
    length[i] = root;
    inverse[i] = squared[i] > 0.0 ? 1.0 / root : 0.0;
  }
}

// 2 cos at the vertex a between b and c.
__device__ double doubled_cosine(double squared_ab, double r_ab, double squared_bc, double r_ac, double l_ac) {
  return r_ab * ((squared_ab - squared_bc) * r_ac + l_ac);
}

// The gradient's part of the legs, with the sum of huber over all triples: partial, one number of each block. A thread has
// the vertices a = EACH row + 0, 1, ... and one leg b. Pairs that coincide for one network alone add huber(1) where
// `same_leg`: b = c.
KERNEL angle_legs(const double* student, const double* teacher, const double* l_student, const double* r_student,
                  const double* l_teacher, const double* r_teacher, double delta, int same_leg, double* gradient,
                  double* partial, int n) {
  __shared__ double shared[ROWS * COLUMNS];
  int b = COLUMN, first = (blockIdx.y * ROWS + threadIdx.y) * EACH;
  double squared_s[EACH], squared_t[EACH], r_s[EACH], r_t[EACH], along[EACH], cosines[EACH], value = 0.0;
  for (int v = 0; v < EACH; v++) {
    bool inside = b < n && first + v < n;
    Long place = inside ? (Long)(first + v) * n + b : 0;
    squared_s[v] = inside ? student[place] : 0.0;
    squared_t[v] = inside ? teacher[place] : 0.0;
    r_s[v] = inside ? r_student[place] : 0.0;
    r_t[v] = inside ? r_teacher[place] : 0.0;
    along[v] = cosines[v] = 0.0;
    if (same_leg && (squared_s[v] > 0.0) != (squared_t[v] > 0.0)) {
      double q = slope_of(1.0, delta);
      value += q * (1.0 - 0.5 * q);
    }
  }
  if (b < n)
    for (int c = 0; c < n; c++) {
      if (c == b) continue;
      double edge_s = student[(Long)c * n + b], edge_t = teacher[(Long)c * n + b];
      for (int v = 0; v < EACH; v++) {
        if (first + v >= n) break;
        Long place = (Long)(first + v) * n + c;
        double r_ac = r_student[place];
        double cosine = doubled_cosine(squared_s[v], r_s[v], edge_s, r_ac, l_student[place]);
        double x = 0.5 * (cosine - doubled_cosine(squared_t[v], r_t[v], edge_t, r_teacher[place], l_teacher[place]));
        double q = slope_of(x, delta);
        value += q * (x - 0.5 * q);
        along[v] += q * r_ac;
        cosines[v] += 0.5 * q * cosine;
      }
    }
  for (int v = 0; v < EACH; v++)
    if (b < n && first + v < n) gradient[(Long)(first + v) * n + b] = r_s[v] * (along[v] - r_s[v] * cosines[v]);
  int thread = threadIdx.y * COLUMNS + threadIdx.x;
  shared[thread] = value;
  for (int half = ROWS * COLUMNS / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) shared[thread] += shared[thread + half];
  }
  if (thread == 0) partial[(Long)blockIdx.y * gridDim.x + blockIdx.x] = shared[0];
}

// The gradient's part of the edges b < c, added to it. A thread has the rows b = EACH row + 0, 1, ... and one column c.
KERNEL angle_edges(const double* student, const double* teacher, const double* l_student, const double* r_student,
                   const double* l_teacher, const double* r_teacher, double delta, double* gradient, int n) {
  int c = COLUMN, first = (blockIdx.y * ROWS + threadIdx.y) * EACH;
  if (c >= n || first >= c) return;
  double edge_s[EACH], edge_t[EACH], sums[EACH];
  for (int v = 0; v < EACH; v++) {
    Long place = (Long)(first + v) * n + c;
    edge_s[v] = first + v < c ? student[place] : 0.0;
    edge_t[v] = first + v < c ? teacher[place] : 0.0;
    sums[v] = 0.0;
  }
  for (int a = 0; a < n; a++) {
    Long row = (Long)a * n;
    double r_s = r_student[row + c], l_s = l_student[row + c], r_t = r_teacher[row + c], l_t = l_teacher[row + c];
    for (int v = 0; v < EACH; v++) {
      if (first + v >= c) break;
      Long place = row + first + v;
      double r_ab = r_student[place];
      double x = doubled_cosine(student[place], r_ab, edge_s[v], r_s, l_s) -
                 doubled_cosine(teacher[place], r_teacher[place], edge_t[v], r_t, l_t);
      sums[v] += slope_of(0.5 * x, delta) * r_ab * r_s;
    }
  }
  for (int v = 0; v < EACH; v++)
    if (first + v < c) gradient[(Long)(first + v) * n + c] -= sums[v];
}

// The way back to the rows of x [n, d], times `factor`: out_i = 2 sum_j (m_ij + m_ji) (x_i - x_j).
KERNEL pull_back(const float* x, const double* gradient, double factor, float* out, int n, int d) {
  int k = COLUMN;
  if (k >= d) return;
  FOR_ROWS(i, n) {
    double own = x[i * d + k], sum = 0.0;
    for (Long j = 0; j < n; j++) sum += (gradient[i * n + j] + gradient[j * n + i]) * (own - x[j * d + k]);
    out[i * d + k] = (float)(2.0 * factor * sum);
  }
}

// factor times the sum of n numbers, by one block.
KERNEL finish_value(const double* partial, double factor, float* value, int n) {
  __shared__ double shared[WIDE + 8];
  double sum = sum_all(partial, n, shared);
  if (threadIdx.x == 0) *value = (float)(factor * sum);
}
