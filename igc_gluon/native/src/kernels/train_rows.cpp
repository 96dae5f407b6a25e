// train_rows.cpp - passes over pixels: batch normalization forward and back, and the secondary of L <= 4.
//
// Bound by loads and stores; what they touch is in L1 or L2 when they come to it, because a tile of rows goes
// through all passes before the next one. Sums run over one tile in float32, from tile to tile in float64.
#include "train_kernels.h"
#include "train_simd.h"

namespace igc {
namespace IGC_TARGET {

ConvWeightKernel train_conv_weights(int w, int q);
PointwiseWeightKernel train_pointwise_weights(int s, int n);

namespace {

template <int ACTIVATION>
IGC_INLINE vec activated(vec v) {
  if constexpr (ACTIVATION != kLinear) v = max(zero(), v);
  if constexpr (ACTIVATION == kRelu6) v = min(splat(6), v);
  return v;
}

template <int ACTIVATION, bool RESIDUAL, bool SCALED>
void activate_rows(const ActivateTask& t) {
  for (ptrdiff_t i = 0, end = (ptrdiff_t)t.pixels * t.positions; i < end; i += t.positions)
    for (int c = 0; c < t.positions; c += 16) {
      vec v = fma(load(t.u + i + c), load(t.a + c), load(t.b + c));
      if constexpr (SCALED)
        v = add(v, fma(load(t.r + i + c), load(t.c + c), load(t.d + c)));
      else if constexpr (RESIDUAL)
        v = add(v, load(t.r + i + c));
      v = activated<ACTIVATION>(v);
      store(t.y + i + c, v);
      if (t.copy) store(t.copy + i + c, v);
    }
}

template <int ACTIVATION>
void activate_as(const ActivateTask& t) {
  if (!t.r)
    activate_rows<ACTIVATION, false, false>(t);
  else if (!t.c)
    activate_rows<ACTIVATION, true, false>(t);
  else
    activate_rows<ACTIVATION, true, true>(t);
}

void activate(const ActivateTask& t) {
  if (t.activation == kLinear)
    activate_as<kLinear>(t);
  else if (t.activation == kRelu)
    activate_as<kRelu>(t);
  else
    activate_as<kRelu6>(t);
}

template <int Q>
IGC_INLINE void moments_of(const float* u, const float* shift, float* sum, float* square, int pixels,
                           int positions) {
  vec first[Q], second[Q], by[Q];
  IGC_TIMES (q, Q) {
    first[q] = second[q] = zero();
    by[q] = load(shift + q * 16);
  }
  for (int i = 0; i < pixels; i++, u += positions)
    IGC_TIMES (q, Q) {
      const vec v = sub(load(u + q * 16), by[q]);
      first[q] = add(first[q], v);
      second[q] = fma(v, v, second[q]);
    }
  IGC_TIMES (q, Q) {
    store(sum + q * 16, first[q]);
    store(square + q * 16, second[q]);
  }
}

void moments(const float* u, const float* shift, float* sum, float* square, int pixels, int positions) {
  int c = 0;
  for (; tile_fits(3, 3, 1) && c + 48 <= positions; c += 48)
    moments_of<3>(u + c, shift + c, sum + c, square + c, pixels, positions);
  for (; c < positions; c += 16) moments_of<1>(u + c, shift + c, sum + c, square + c, pixels, positions);
}

void normalize_back(const float* dz, const float* u, const float* ka, const float* kb, const float* kc,
                    float* to, int pixels, int positions) {
  for (ptrdiff_t i = 0, end = (ptrdiff_t)pixels * positions; i < end; i += positions)
    for (int c = 0; c < positions; c += 16)
      store(to + i + c,
            fma(load(dz + i + c), load(ka + c), fma(load(u + i + c), load(kb + c), load(kc + c))));
}

// What tells where a gradient passes.
enum class Mask { None, Value, Positive, Within6 };

template <int Q, Mask MASK, bool SECOND>
IGC_INLINE void finish_vectors(const FinishTask& t, int c) {
  [[maybe_unused]] vec a[Q], b[Q];
  vec mean[Q], mean2[Q], sum[Q], dot[Q], dot2[Q];
  IGC_TIMES (q, Q) {
    if (MASK == Mask::Positive || MASK == Mask::Within6) {
      a[q] = load(t.a + c + q * 16);
      b[q] = load(t.b + c + q * 16);
    }
    mean[q] = load(t.mean + c + q * 16);
    if (SECOND) mean2[q] = load(t.mean2 + c + q * 16);
    sum[q] = dot[q] = dot2[q] = zero();
  }
  ptrdiff_t at = c;
  for (int i = 0; i < t.pixels; i++, at += t.positions)
    IGC_TIMES (q, Q) {
      const ptrdiff_t p = at + q * 16;
      vec v = load(t.from + p);
      if (t.more) v = add(v, load(t.more + p));
      if (t.again) v = add(v, load(t.again + p));
      const vec u = load(t.u + p);
      if constexpr (MASK == Mask::Value) v = where_positive(load(t.value + p), v);
      if constexpr (MASK == Mask::Positive) v = where_positive(fma(u, a[q], b[q]), v);
      if constexpr (MASK == Mask::Within6) v = where_within_6(fma(u, a[q], b[q]), v);
      store(t.to + p, v);
      sum[q] = add(sum[q], v);
      dot[q] = fma(v, sub(u, mean[q]), dot[q]);
      if (SECOND) dot2[q] = fma(v, sub(load(t.u2 + p), mean2[q]), dot2[q]);
    }
  IGC_TIMES (q, Q) {
    store(t.sum + c + q * 16, sum[q]);
    store(t.dot + c + q * 16, dot[q]);
    if (SECOND) store(t.dot2 + c + q * 16, dot2[q]);
  }
}

template <Mask MASK, bool SECOND>
void finish_rows(const FinishTask& t) {
  int c = 0;
  for (; tile_fits(3, 7, 2) && c + 48 <= t.positions; c += 48) finish_vectors<3, MASK, SECOND>(t, c);
  for (; c < t.positions; c += 16) finish_vectors<1, MASK, SECOND>(t, c);
}

template <Mask MASK>
void finish_behind(const FinishTask& t) {
  if (t.u2)
    finish_rows<MASK, true>(t);
  else
    finish_rows<MASK, false>(t);
}

void finish(const FinishTask& t) {
  if (t.activation == kLinear)
    finish_behind<Mask::None>(t);
  else if (t.value)
    finish_behind<Mask::Value>(t);
  else if (t.activation == kRelu)
    finish_rows<Mask::Positive, false>(t);
  else
    finish_rows<Mask::Within6, false>(t);
}

int clip(int v, int high) { return v < 0 ? 0 : v > high ? high : v; }

void max_pool_back(const PoolBackTask& task, int row_begin, int row_end) {
  const PoolTask& t = task.forward;
  for (int r = row_begin; r < row_end; r++) {
    const int top = clip(r * t.stride - t.pad_h, t.height),
              bottom = clip(r * t.stride - t.pad_h + t.kernel_h, t.height);
    for (int c = 0; c < t.out_width; c++) {
      const int left = clip(c * t.stride - t.pad_w, t.width),
                right = clip(c * t.stride - t.pad_w + t.kernel_w, t.width);
      const ptrdiff_t out = r * t.y_row + c * t.y_pixel;
      for (int i = 0; i < t.positions; i += 16) {
        const vec most = load(t.y + out + i);
        vec left_over = load(task.d + out + i);  // nothing, once an input has taken it
        for (int y = top; y < bottom; y++)
          for (int x = left; x < right; x++) {
            const ptrdiff_t in = y * t.x_row + x * t.x_pixel + i;
            const vec taken = where_equal(load(t.x + in), most, left_over);
            store(task.dx + in, add(load(task.dx + in), taken));
            left_over = sub(left_over, taken);
          }
      }
    }
  }
}

void add_rows(const float* from, const float* more, float* to, int pixels, int positions) {
  for (ptrdiff_t i = 0, end = (ptrdiff_t)pixels * positions; i < end; i += 16)
    store(to + i, add(load(from + i), load(more + i)));
}

void fours(const FoursTask& t, int rows) {
  for (int q = 0; q < t.vectors; q++) {
    const float* s = t.weights + q * 64;
    const vec s0 = load(s), s1 = load(s + 16), s2 = load(s + 32), s3 = load(s + 48);
    for (int r = 0; r < rows; r++) {
      const float* x = t.x + r * t.x_row + q * 16;
      float* y = t.y + r * t.y_row + q * 16;
      for (int i = 0; i < t.width; i++, x += t.x_pixel, y += t.y_pixel) {
        const vec v = load(x);
        store(y, add(fma(splat4<2>(v), s2, mul(splat4<0>(v), s0)),
                     fma(splat4<3>(v), s3, mul(splat4<1>(v), s1))));
      }
    }
  }
}

template <int Q>
void fours_weights_of(const FoursTask& t, int first, int rows) {
  vec acc[Q][4];
  float* w = t.w + first * 64;
  IGC_TIMES (q, Q)
    IGC_TIMES (k, 4) acc[q][k] = load(w + (q * 4 + k) * 16);
  for (int r = 0; r < rows; r++) {
    const float *x = t.x + r * t.x_row + first * 16, *d = t.d + r * t.d_row + first * 16;
    for (int i = 0; i < t.width; i++, x += t.x_pixel, d += t.d_pixel)
      IGC_TIMES (q, Q) {
        const vec v = load(x + q * 16), g = load(d + q * 16);
        acc[q][0] = fma(g, splat4<0>(v), acc[q][0]);
        acc[q][1] = fma(g, splat4<1>(v), acc[q][1]);
        acc[q][2] = fma(g, splat4<2>(v), acc[q][2]);
        acc[q][3] = fma(g, splat4<3>(v), acc[q][3]);
      }
  }
  IGC_TIMES (q, Q)
    IGC_TIMES (k, 4) store(w + (q * 4 + k) * 16, acc[q][k]);
}

void fours_weights(const FoursTask& t, int rows) {
  int q = 0;
  for (; tile_fits(8, 1, 4) && q + 2 <= t.vectors; q += 2) fours_weights_of<2>(t, q, rows);
  for (; q < t.vectors; q++) fours_weights_of<1>(t, q, rows);
}

}  // namespace

extern const TrainKernels train_kernels;
const TrainKernels train_kernels = {train_conv_weights,
                                    train_pointwise_weights,
                                    fours,
                                    fours_weights,
                                    activate,
                                    moments,
                                    normalize_back,
                                    finish,
                                    max_pool_back,
                                    add_rows};

}  // namespace IGC_TARGET
}  // namespace igc
