// int8_pointwise.cpp - 1x1 products of bytes: ../pointwise.cpp with words of four inputs where that has floats.
//
// A vector of weights holds S words for each of 16 / S outputs; the S partial sums are added as integers. L =
// 24 with S = 2: 3 units, 3 steps of 8 inputs, 9 VPDPBUSD for a pixel of 24 x 24 products.
// Register tile, AVX-512: P = 8 pixels x N = 3 units, 24 accumulators + 3 weights + 1 input = 28 of 32. AVX2 with
// VNNI: 6 x 1 (12 + 2 + 2 of 16), without: 4 x 1 (8 + 4 + 4).
#include "int8_simd.h"

namespace igc {
namespace IGC_TARGET {
namespace {

template <int S, int N, int P>
IGC_INLINE void accumulate(const Int8PointwiseTask& t, const uint8_t* x, ints (&sum)[P][N]) {
  const int8_t* w = t.weights;
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

  static IGC_INLINE ints combine(const ints (&sum)[P][N], int i) {
    const int p = pixel(i), n = unit(i);
    if constexpr (S == 1)
      return sum[p][n];
    else if constexpr (S == 4)
      return quad_sum(sum[p][n], sum[clip(p + 1)][n], sum[clip(p + 2)][n], sum[clip(p + 3)][n]);
    else
      return i < kPaired ? pair_sum(sum[p][0], sum[p][N >= 2 ? 1 : 0])
                         : pair_sum(sum[p][n], sum[clip(p + 1)][n]);
  }
  static IGC_INLINE __m128i fetch(const uint8_t* at, ptrdiff_t step, int i) {
    const int p = pixel(i);
    if constexpr (S == 4)
      return _mm_setr_epi32(word_at(at + p * step), word_at(at + clip(p + 1) * step),
                            word_at(at + clip(p + 2) * step), word_at(at + clip(p + 3) * step));
    else if (S == 1 || i < kPaired)
      return bytes_at(at + p * step);
    else
      return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i*)(at + p * step)),
                                _mm_loadl_epi64((const __m128i*)(at + clip(p + 1) * step)));
  }
  static IGC_INLINE void put(uint8_t* at, ptrdiff_t step, int i, __m128i v) {
    const int p = pixel(i);
    if constexpr (S == 4) {
      put_word(at + p * step, v);
      if (p + 1 < P) put_word(at + (p + 1) * step, _mm_srli_si128(v, 4));
      if (p + 2 < P) put_word(at + (p + 2) * step, _mm_srli_si128(v, 8));
      if (p + 3 < P) put_word(at + (p + 3) * step, _mm_srli_si128(v, 12));
    } else if (S == 1 || i < kPaired) {
      put_bytes(at + p * step, v);
    } else {
      _mm_storel_epi64((__m128i*)(at + p * step), v);
      if (p + 1 < P) _mm_storel_epi64((__m128i*)(at + (p + 1) * step), _mm_unpackhi_epi64(v, v));
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
IGC_INLINE void tile(const Int8PointwiseTask& t, const uint8_t* x, uint8_t* y, const uint8_t* residual) {
  typedef Results<S, N, P> R;
  ints sum[P][N];
  vec out[R::kCount];
  IGC_TIMES (n, N)
    IGC_TIMES (p, P) sum[p][n] = zero_ints();
  accumulate<S, N, P>(t, x, sum);
  IGC_TIMES (i, R::kCount)
    out[i] =
        fma(to_floats(R::combine(sum, i)), load(t.scale + R::unit(i) * 16), load(t.bias + R::unit(i) * 16));
  if (residual) {
    const vec scale = splat(t.epilogue.residual_scale);
    IGC_TIMES (i, R::kCount)
      out[i] = fma(to_floats(R::fetch(residual + t.offset[R::unit(i)], t.r_pixel, i)), scale, out[i]);
  }
  if (t.epilogue.floats) {
    const vec lowest = splat(t.epilogue.lowest), highest = splat(t.epilogue.highest);
    IGC_TIMES (i, R::kCount)
      R::put((float*)y + t.offset[R::unit(i)], t.y_pixel / (ptrdiff_t)sizeof(float), i,
             min(highest, max(lowest, out[i])));
  } else {
    each_as_bytes<R::kCount>(out, _mm_setzero_si128(), false, [&](int i, __m128i bytes) IGC_ALWAYS {
      R::put(y + t.offset[R::unit(i)], t.y_pixel, i, bytes);
    });
  }
}

template <int S, int N, int P>
void rows(const Int8PointwiseTask& t, int row_begin, int row_end) {
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
Int8PointwiseKernel choose_pixels(int width) {
  Choice<Int8PointwiseKernel> best(width);
  constexpr int more = (N + 1) * kParts;
  if constexpr (tile_fits(16, N, more)) best.offer(16, rows<S, N, 16>);
  if constexpr (tile_fits(8, N, more)) {
    best.offer(8, rows<S, N, 8>);
    best.offer(7, rows<S, N, 7>);
  } else if constexpr (tile_fits(6, N, more))
    best.offer(6, rows<S, N, 6>);
  best.offer(4, rows<S, N, 4>);
  best.offer(1, rows<S, N, 1>);
  return best.value;
}

template <int S>
Int8PointwiseKernel choose_units([[maybe_unused]] int n, int width) {
  if constexpr (kInt8Units >= 3) {
    if (n == 2) return choose_pixels<S, 2>(width);
    if (n == 3) return choose_pixels<S, 3>(width);
  }
  return choose_pixels<S, 1>(width);
}

}  // namespace

Int8PointwiseKernel pointwise_kernel(int s, int n, int width) {
  return s == 1 ? choose_units<1>(n, width) : s == 2 ? choose_units<2>(n, width) : choose_units<4>(n, width);
}

}  // namespace IGC_TARGET
}  // namespace igc
