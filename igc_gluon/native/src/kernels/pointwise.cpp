// pointwise.cpp - 1x1 products in the interleaved layout: the secondary group convolution, projections, dense and
// grouped 1x1 convolutions, the fully connected layer.
//
// A unit is 16 / S consecutive output positions. Its vector of weights holds S inputs for each of them, lane
// o * S + s is output o, input k + s, and meets S consecutive inputs, broadcast; the S partial sums are added
// at the end. S = 1 is the ordinary product. S > 1 fills the lanes where few outputs share their inputs: L =
// 24 would be 1.5 vectors, with S = 2 it is exactly 3; and one broadcast load then feeds 3 multiply-adds.
//
// Register tile, AVX-512: P = 8 pixels x N = 3 units: for every S inputs 3 weights + 8 broadcasts loaded for
// 24 multiply-adds; 24 + 3 + 1 = 28 registers. N = 1 takes 16 pixels. AVX2: 6 x 1 (12 + 2 + 2). Portable: 2
// x 1.
#include "kernels.h"
#include "simd.h"

namespace igc {
namespace IGC_TARGET {
namespace {

// Weights are read once per tile of pixels. Where many outputs share their inputs (S = 1) they may come from
// L2; asking for them this many steps ahead hides its latency. (Passes over parts of the inputs, as conv.cpp
// makes them, were tried here: 5 to 10 % slower.)
constexpr int kPrefetch = 8;

template <int S, int N, int P>
IGC_INLINE void accumulate(const PointwiseTask& t, const float* x, Prefetcher& prefetcher, vec (&acc)[P][N]) {
  const float* w = t.weights;
  for (int s = 0; s < t.n_segments; s++) {
    const int length = t.segments[s].length;
    const float* base[(P + 2) / 3];
    IGC_TIMES (i, (P + 2) / 3) base[i] = x + t.segments[s].offset + 3 * i * t.x_pixel;
    IGC_UNROLL_STEPS for (int k = 0; k < length; k += S) {
      prefetcher.next();
      vec weight[N];
      IGC_TIMES (n, N) {
        weight[n] = load(w + n * 16);
        if (S == 1) prefetch(w + (kPrefetch * N + n) * 16);
      }
      IGC_TIMES (p, P) {
        const vec v = broadcast<S>(base[p / 3] + (p % 3) * t.x_pixel);
        IGC_TIMES (n, N) acc[p][n] = fma(v, weight[n], acc[p][n]);
      }
      IGC_TIMES (i, (P + 2) / 3) base[i] += S;
      w += N * 16;
    }
  }
}

// The result vectors of a tile, in the order in which they are stored.
//   S = 1: one for each pixel and unit.
//   S = 2: units 0 and 1 of a block are neighbors (../pointwise_plan.cpp), one vector for each pixel; of an odd
//   unit, one
//          for two pixels, eight outputs of each.
//   S = 4: one for four pixels of a unit, four outputs of each.
// Where the tile ends, the last pixel stands in for those that would follow.
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

  static IGC_INLINE vec combine(const vec (&acc)[P][N], int i) {
    const int p = pixel(i), n = unit(i);
    if constexpr (S == 1)
      return acc[p][n];
    else if constexpr (S == 4)
      return quad_sum(acc[p][n], acc[clip(p + 1)][n], acc[clip(p + 2)][n], acc[clip(p + 3)][n]);
    else
      return i < kPaired ? pair_sum(acc[p][0], acc[p][N >= 2 ? 1 : 0])
                         : pair_sum(acc[p][n], acc[clip(p + 1)][n]);
  }
  // `at` is the unit's place in the first pixel of the tile, `step` from pixel to pixel.
  static IGC_INLINE vec fetch(const float* at, ptrdiff_t step, int i) {
    const int p = pixel(i);
    if constexpr (S == 4)
      return load_4(at + p * step, at + clip(p + 1) * step, at + clip(p + 2) * step, at + clip(p + 3) * step);
    else if (S == 1 || i < kPaired)
      return load(at + p * step);
    else
      return load_8_8(at + p * step, at + clip(p + 1) * step);
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
IGC_INLINE void tile(const PointwiseTask& t, const float* x, float* y, const float* residual,
                     Prefetcher& prefetcher) {
  typedef Results<S, N, P> R;
  vec acc[P][N], out[R::kCount];
  IGC_TIMES (n, N) {
    const vec bias = load(t.bias + n * 16);
    IGC_TIMES (p, P) acc[p][n] = bias;
  }
  accumulate<S, N, P>(t, x, prefetcher, acc);
  IGC_TIMES (i, R::kCount) out[i] = R::combine(acc, i);
  if (residual) {
    IGC_TIMES (i, R::kCount) out[i] = add(out[i], R::fetch(residual + t.offset[R::unit(i)], t.r_pixel, i));
  }
  if (t.activation != kLinear) {
    IGC_TIMES (i, R::kCount) out[i] = max(zero(), out[i]);
  }
  if (t.activation == kRelu6) {
    const vec six = splat(6);
    IGC_TIMES (i, R::kCount) out[i] = min(six, out[i]);
  }
  IGC_TIMES (i, R::kCount) R::put(y + t.offset[R::unit(i)], t.y_pixel, i, out[i]);
}

template <int S, int N, int P>
void rows(const PointwiseTask& t, int row_begin, int row_end) {
  Prefetcher prefetcher(t.next, t.prefetch);
  for (int r = row_begin; r < row_end; r++) {
    const float* x = t.x + r * t.x_row;
    float* y = t.y + r * t.y_row;
    const float* residual = t.residual ? t.residual + r * t.r_row : nullptr;
    for (int i = 0; i < t.width; i += P) {
      if (i + P > t.width) i = t.width - P;
      tile<S, N, P>(t, x + i * t.x_pixel, y + i * t.y_pixel, residual ? residual + i * t.r_pixel : nullptr,
                    prefetcher);
    }
  }
  prefetcher.finish(t.next, t.prefetch);
}

template <int S, int N>
PointwiseKernel choose_pixels(int width) {
  Choice<PointwiseKernel> best(width);
  constexpr int more = N + 1;
  if constexpr (tile_fits(16, N, more)) best.offer(16, rows<S, N, 16>);
  if constexpr (tile_fits(8, N, more)) {
    best.offer(8, rows<S, N, 8>);
    best.offer(7, rows<S, N, 7>);
  } else if constexpr (tile_fits(6, N, more))
    best.offer(6, rows<S, N, 6>);
  if constexpr (tile_fits(4, N, more))
    best.offer(4, rows<S, N, 4>);
  else
    best.offer(2, rows<S, N, 2>);
  best.offer(1, rows<S, N, 1>);
  return best.value;
}

template <int S>
PointwiseKernel choose_units(int n, int width) {
  if (n == 1) return choose_pixels<S, 1>(width);
  if constexpr (kMaxVectors >= 3) {
    if (n == 2) return choose_pixels<S, 2>(width);
    if (n == 3) return choose_pixels<S, 3>(width);
  }
  return nullptr;
}

}  // namespace

PointwiseKernel pointwise_kernel(int s, int n, int width) {
  if (s == 1) return choose_units<1>(n, width);
  if (s == 2) return choose_units<2>(n, width);
  if (s == 4) return choose_units<4>(n, width);
  return nullptr;
}

}  // namespace IGC_TARGET
}  // namespace igc
