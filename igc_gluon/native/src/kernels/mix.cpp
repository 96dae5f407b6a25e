// mix.cpp - 1x1 products in the interleaved layout: the secondary group convolution, projections, dense and grouped
// 1x1 convolutions, the fully connected layer.
//
// A unit is 16 / S consecutive output positions. Its vector of weights holds S inputs for each of them, lane
// o * S + s is output o, input k + s, and meets S consecutive inputs, broadcast; the S partial sums are added at the
// end. S = 1 is the ordinary product. S > 1 fills the lanes where few outputs share their inputs: L = 24
// would be 1.5 vectors, with S = 2 it is exactly 3; and one broadcast load then feeds 3 multiply-adds.
//
// Register tile, AVX-512: P = 8 pixels x N = 3 units: for every S inputs 3 weights + 8 broadcasts loaded for 24
// multiply-adds; 24 + 3 + 1 = 28 registers. N = 1 takes 16 pixels. AVX2: 6 x 1 (12 + 2 + 2). Portable: 2 x 1.
#include "kernels.h"
#include "simd.h"

namespace igc {
namespace IGC_TARGET {
namespace {

// Weights are read once per tile of pixels. Where they come from L2, asking for them this many steps ahead hides
// its latency.
constexpr int kPrefetch = 8;

template <int S, int N, int P>
IGC_INLINE void accumulate(const MixTask& t, const float* x, vec (&acc)[P][N]) {
  const float* w = t.weights;
  for (int i = 0; i < t.n_segments; i++) {
    const int length = t.segments[i].length;
    const float* base[(P + 2) / 3];
    IGC_UNROLL for (int p = 0; p < P; p += 3) base[p / 3] = x + t.segments[i].offset + p * t.x_pixel;
    _Pragma("GCC unroll 2") for (int k = 0; k < length; k += S) {
      vec weight[N];
      IGC_UNROLL for (int n = 0; n < N; n++) {
        weight[n] = load(w + n * 16);
        prefetch(w + (kPrefetch * N + n) * 16);
      }
      IGC_UNROLL for (int p = 0; p < P; p++) {
        const vec v = broadcast<S>(base[p / 3] + (p % 3) * t.x_pixel);
        IGC_UNROLL for (int n = 0; n < N; n++) acc[p][n] = fma(v, weight[n], acc[p][n]);
      }
      IGC_UNROLL for (int p = 0; p < P; p += 3) base[p / 3] += S;
      w += N * 16;
    }
  }
}

IGC_INLINE vec activate(const MixTask& t, vec v) {
  if (t.activation != kLinear) v = max(zero(), v);
  if (t.activation == kRelu6) v = min(splat(6), v);
  return v;
}

// One whole vector of outputs at one place.
IGC_INLINE void put_16(const MixTask& t, vec v, float* y, const float* r) {
  if (r) v = add(v, load(r));
  store(y, activate(t, v));
}

// Eight outputs of each of two pixels, the second of which may be absent.
IGC_INLINE void put_8_8(const MixTask& t, vec v, float* y, const float* r, bool both) {
  const ptrdiff_t second = both ? t.y_pixel : 0;
  if (r) v = add(v, load_8_8(r, r + (both ? t.r_pixel : 0)));
  v = activate(t, v);
  if (both) store_high8(y + second, v);
  store_low8(y, v);
}

// Four outputs of each of four pixels; those beyond the last repeat it.
IGC_INLINE void put_4_4(const MixTask& t, vec v, float* y, const float* r, int last) {
  const ptrdiff_t a = last < 1 ? last : 1, b = last < 2 ? last : 2, c = last < 3 ? last : 3;
  if (r) v = add(v, load_4(r, r + a * t.r_pixel, r + b * t.r_pixel, r + c * t.r_pixel));
  store_4(y, y + a * t.y_pixel, y + b * t.y_pixel, y + c * t.y_pixel, activate(t, v));
}

template <int S, int N, int P>
IGC_INLINE void tile(const MixTask& t, const float* x, float* y, const float* residual) {
  vec acc[P][N];
  IGC_UNROLL for (int n = 0; n < N; n++) {
    const vec bias = load(t.bias + n * 16);
    IGC_UNROLL for (int p = 0; p < P; p++) acc[p][n] = bias;
  }
  accumulate<S, N, P>(t, x, acc);
  auto from = [&](int p, int n) { return residual ? residual + p * t.r_pixel + t.offset[n] : nullptr; };
  if constexpr (S == 1) {
    IGC_UNROLL for (int n = 0; n < N; n++)
      IGC_UNROLL for (int p = 0; p < P; p++) put_16(t, acc[p][n], y + p * t.y_pixel + t.offset[n], from(p, n));
  } else if constexpr (S == 2) {
    // Units 0 and 1 of a block are neighbours (plan.cpp): one vector. The odd one pairs its pixels.
    if constexpr (N >= 2) {
      IGC_UNROLL for (int p = 0; p < P; p++)
        put_16(t, pair_sum(acc[p][0], acc[p][1]), y + p * t.y_pixel + t.offset[0], from(p, 0));
    }
    if constexpr (N % 2 == 1) {
      constexpr int n = N - 1;
      IGC_UNROLL for (int p = 0; p < P; p += 2) {
        const bool both = p + 1 < P;
        put_8_8(t, pair_sum(acc[p][n], acc[both ? p + 1 : p][n]), y + p * t.y_pixel + t.offset[n], from(p, n), both);
      }
    }
  } else {
    IGC_UNROLL for (int n = 0; n < N; n++) IGC_UNROLL for (int p = 0; p < P; p += 4) {
      const int last = P - 1 - p < 3 ? P - 1 - p : 3;
      put_4_4(t, quad_sum(acc[p][n], acc[last < 1 ? p : p + 1][n], acc[last < 2 ? p + last : p + 2][n], acc[p + last][n]),
              y + p * t.y_pixel + t.offset[n], from(p, n), last);
    }
  }
}

template <int S, int N, int P>
void rows(const MixTask& t, int row_begin, int row_end) {
  for (int r = row_begin; r < row_end; r++) {
    const float* x = t.x + r * t.x_row;
    float* y = t.y + r * t.y_row;
    const float* residual = t.residual ? t.residual + r * t.r_row : nullptr;
    for (int i = 0; i < t.width; i += P) {
      if (i + P > t.width) i = t.width - P;
      tile<S, N, P>(t, x + i * t.x_pixel, y + i * t.y_pixel, residual ? residual + i * t.r_pixel : nullptr);
    }
  }
}

template <int S, int N>
MixKernel choose_pixels(int width) {
  Choice<MixKernel> best(width);
  constexpr int more = N + 1;
  if constexpr (tile_fits(16, N, more)) best.offer(16, rows<S, N, 16>);
  if constexpr (tile_fits(8, N, more)) {
    best.offer(8, rows<S, N, 8>);
    best.offer(7, rows<S, N, 7>);
  } else if constexpr (tile_fits(6, N, more)) best.offer(6, rows<S, N, 6>);
  if constexpr (tile_fits(4, N, more)) best.offer(4, rows<S, N, 4>);
  else best.offer(2, rows<S, N, 2>);
  best.offer(1, rows<S, N, 1>);
  return best.value;
}

template <int S>
MixKernel choose_units(int n, int width) {
  if (n == 1) return choose_pixels<S, 1>(width);
  if constexpr (kMaxVectors >= 3) {
    if (n == 2) return choose_pixels<S, 2>(width);
    if (n == 3) return choose_pixels<S, 3>(width);
  }
  return nullptr;
}

}  // namespace

MixKernel mix_kernel(int s, int n, int width) {
  if (s == 1) return choose_units<1>(n, width);
  if (s == 2) return choose_units<2>(n, width);
  if (s == 4) return choose_units<4>(n, width);
  return nullptr;
}

}  // namespace IGC_TARGET
}  // namespace igc
