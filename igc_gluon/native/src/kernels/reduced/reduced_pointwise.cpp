// reduced_pointwise.cpp - 1x1 products of bytes or bfloat16: ../pointwise.cpp with words of inputs where that has floats.
//
// A vector of weights holds S words for each of 16 / S outputs; the S partial sums are added in the end. L =
// 24 with S = 2: 3 units, 3 steps of 8 bytes (6 of 4 bfloat16), 9 (18) dot products for a pixel of 24 x 24 products.
// Register tile, AVX-512: P = 8 pixels x N = 3 units, 24 accumulators + 3 weights + 1 input = 28 of 32. AVX2 with
// VNNI: 6 x 1 (12 + 2 + 2 of 16), without: 4 x 1 (8 + 4 + 4).
#include "words.h"

namespace igc {
namespace IGC_TARGET {
namespace {

template <int S, int N, int P>
IGC_INLINE void accumulate(const ReducedPointwiseTask& t, const uint8_t* x, Sums (&sum)[P][N]) {
  const uint8_t* w = t.weights;
  const ptrdiff_t step = t.x_pixel;
  // One loop, not one over segments around another: with two GCC 12 keeps the sums in memory.
  for (int k = 0; k < t.steps; k++, w += N * 64) {
    const uint8_t* base = x + t.inputs[k];
    Weights weight[N];
    IGC_TIMES (n, N) weight[n] = weights_at(w + n * 64);
    IGC_TIMES (p, P) {
      const Inputs v = as_inputs(broadcast_words<S>(base + p % 3 * step));
      if (p % 3 == 2) base += 3 * step;
      IGC_TIMES (n, N) add_products(sum[p][n], v, weight[n]);
    }
  }
}

// Result vectors as in ../pointwise.cpp: S = 1: a pixel and a unit. S = 2: units 0 and 1 of a pixel, or an odd unit
// of two pixels. S = 4: a unit of four pixels.
template <int S, int N, int P>
struct Results {
  static constexpr int kGroups = (P + S - 1) / S;
  static constexpr int kPaired = S == 2 && N >= 2 ? P : 0;
  static constexpr int kCount = S == 2 ? kPaired + N % 2 * kGroups : N * kGroups;
  static constexpr int unit(int i) { return S == 2 ? (i < kPaired ? 0 : N - 1) : i / kGroups; }
  static constexpr int pixel(int i) {
    return S == 2 ? (i < kPaired ? i : (i - kPaired) * 2) : i % kGroups * S;
  }
  static constexpr int clip(int p) { return p < P ? p : P - 1; }

  static IGC_INLINE Sums combine(const Sums (&sum)[P][N], int i) {
    const int p = pixel(i), n = unit(i);
    if constexpr (S == 1)
      return sum[p][n];
    else if constexpr (S == 4)
      return quad_sum(sum[p][n], sum[clip(p + 1)][n], sum[clip(p + 2)][n], sum[clip(p + 3)][n]);
    else
      return i < kPaired ? pair_sum(sum[p][0], sum[p][N >= 2 ? 1 : 0])
                         : pair_sum(sum[p][n], sum[clip(p + 1)][n]);
  }
  static IGC_INLINE Elements fetch(const uint8_t* at, ptrdiff_t step, int i) {
    const int p = pixel(i);
    if constexpr (S == 4)
      return elements_4(at + p * step, at + clip(p + 1) * step, at + clip(p + 2) * step,
                        at + clip(p + 3) * step);
    else if (S == 1 || i < kPaired)
      return elements_at(at + p * step);
    else
      return elements_8_8(at + p * step, at + clip(p + 1) * step);
  }
  static IGC_INLINE void put(uint8_t* at, ptrdiff_t step, int i, const Elements& v) {
    const int p = pixel(i);
    if constexpr (S == 4) {
      put_quarter<0>(at + p * step, v);
      if (p + 1 < P) put_quarter<1>(at + (p + 1) * step, v);
      if (p + 2 < P) put_quarter<2>(at + (p + 2) * step, v);
      if (p + 3 < P) put_quarter<3>(at + (p + 3) * step, v);
    } else if (S == 1 || i < kPaired) {
      put_elements(at + p * step, v);
    } else {
      put_low8(at + p * step, v);
      if (p + 1 < P) put_high8(at + (p + 1) * step, v);
    }
  }
  static IGC_INLINE void put(float* at, ptrdiff_t step, int i, vec v) {
    const int p = pixel(i);
    if constexpr (S == 4) {
      store_4(at + p * step, at + clip(p + 1) * step, at + clip(p + 2) * step, at + clip(p + 3) * step, v);
    } else if (S == 1 || i < kPaired) {
      store(at + p * step, v);
    } else {
      store_low8(at + p * step, v);
      if (p + 1 < P) store_high8(at + (p + 1) * step, v);
    }
  }
};

template <int S, int N, int P>
IGC_INLINE void tile(const ReducedPointwiseTask& t, const uint8_t* x, uint8_t* y, const uint8_t* residual) {
  typedef Results<S, N, P> R;
  Sums sum[P][N];
  vec out[R::kCount];
  IGC_TIMES (n, N)
    IGC_TIMES (p, P) sum[p][n] = zero_sums();
  accumulate<S, N, P>(t, x, sum);
  IGC_TIMES (i, R::kCount)
    out[i] = finished(R::combine(sum, i), t.scale + R::unit(i) * 16, t.bias + R::unit(i) * 16);
  if (residual) {
    IGC_TIMES (i, R::kCount)
      out[i] = with_residual(out[i], R::fetch(residual + t.offset[R::unit(i)] * kBytes, t.r_pixel, i),
                             t.epilogue.residual_scale);
  }
  IGC_TIMES (i, R::kCount) out[i] = clipped(out[i], t.epilogue);
  if (t.epilogue.floats) {
    IGC_TIMES (i, R::kCount)
      R::put((float*)y + t.offset[R::unit(i)], t.y_pixel / (ptrdiff_t)sizeof(float), i, out[i]);
  } else {
    each_as_elements<16>(out, false, [&](int i, const Elements& elements) IGC_ALWAYS {
      R::put(y + t.offset[R::unit(i)] * kBytes, t.y_pixel, i, elements);
    });
  }
}

template <int S, int N, int P>
void rows(const ReducedPointwiseTask& t, int row_begin, int row_end) {
  for (int r = row_begin; r < row_end; r++) {
    const uint8_t* x = t.x + r * t.x_row;
    uint8_t* y = t.y + r * t.y_row;
    const uint8_t* residual = t.residual ? t.residual + r * t.r_row : nullptr;
    for (int i = 0; i < t.width; i += P) {
      if (i + P > t.width) i = t.width - P;
      tile<S, N, P>(t, x + i * t.x_pixel, y + i * t.y_pixel, residual ? residual + i * t.r_pixel : nullptr);
    }
  }
}

template <int S, int N>
ReducedPointwiseKernel choose_pixels(int width) {
  Choice<ReducedPointwiseKernel> best(width);
  constexpr int more = (N + 1) * kParts;
  if constexpr (reduced_tile_fits(16, N, more)) best.offer(16, rows<S, N, 16>);
  if constexpr (reduced_tile_fits(8, N, more)) {
    best.offer(8, rows<S, N, 8>);
    best.offer(7, rows<S, N, 7>);
  } else if constexpr (reduced_tile_fits(6, N, more))
    best.offer(6, rows<S, N, 6>);
  best.offer(4, rows<S, N, 4>);
  best.offer(1, rows<S, N, 1>);
  return best.value;
}

template <int S>
ReducedPointwiseKernel choose_units([[maybe_unused]] int n, int width) {
  if constexpr (kReducedUnits >= 3) {
    if (n == 2) return choose_pixels<S, 2>(width);
    if (n == 3) return choose_pixels<S, 3>(width);
  }
  return choose_pixels<S, 1>(width);
}

}  // namespace

ReducedPointwiseKernel pointwise_kernel(int s, int n, int width) {
  return s == 1 ? choose_units<1>(n, width) : s == 2 ? choose_units<2>(n, width) : choose_units<4>(n, width);
}

}  // namespace IGC_TARGET
}  // namespace igc
