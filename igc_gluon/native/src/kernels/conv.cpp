// conv.cpp - group convolution in the interleaved layout (../layout.h): primary, dense, channel-wise and
// stem.
//
// A vector holds 16 / w outputs m' of w groups: lane j is output m' = j / w of group l = j % w. Input channel
// m of these groups is w consecutive floats, broadcast to all lanes. So one multiply-add serves 16 outputs,
// and the permutation between channels never happens.
//
// Register tile, AVX-512: P = 8 pixels x Q = 2 vectors. With 3 taps in a row and stride 1 or 2, a pixel is loaded once
//   for all taps that it meets: for every (dy, m) 6 weight vectors + 10 (stride 2: 17) input pixels loaded, 48
//   multiply-adds; registers: 16 accumulators + 6 + 1 of 32. A single vector (Q = 1) takes 16 pixels, so that its
//   accumulators cover the latency of the FMA units.
// Other kernels and strides: Q + 8 loads for 8 Q multiply-adds, Q = 3: 24 + 3 + 1 registers.
// AVX2: 4 pixels x 1 (8 + 6 + 2 registers), stride 2 as other kernels: 6 x 1. Portable: 2 x 1.
#include "kernels.h"
#include "simd.h"

namespace igc {
namespace IGC_TARGET {
namespace {

constexpr int kTaps = 3;
constexpr int kUnrolledStrides = IGC_LANES == 16 ? 2 : IGC_LANES == 8 ? 1 : 0;
constexpr int kUnrolledVectors = IGC_LANES == 16 ? 2 : 1;

// Addresses of P pixels: every third one is a register, the others are its base + {1, 2} * index.
template <int P>
struct Pixels {
  const float* base[(P + 2) / 3];
  ptrdiff_t step;
  IGC_INLINE Pixels(const float* x, ptrdiff_t step_) : step(step_) {
    IGC_TIMES (i, (P + 2) / 3) base[i] = x + 3 * i * step_;
  }
  IGC_INLINE const float* at(int i) const { return base[i / 3] + (i % 3) * step; }
  IGC_INLINE void advance(ptrdiff_t by) {
    IGC_TIMES (i, (P + 2) / 3) base[i] += by;
  }
};

// STRIDE > 0: three taps in a row, unrolled. STRIDE = 0: any kernel width and stride.
template <int W, int Q, int P, int STRIDE>
IGC_INLINE void accumulate(const ConvTask& t, const float* x, Prefetcher& prefetcher, vec (&acc)[P][Q]) {
  const float* w = t.weights;
  for (int dy = 0; dy < t.kernel_h; dy++, x += t.x_line) {
    if constexpr (STRIDE > 0) {
      constexpr int kPixels = (P - 1) * STRIDE + kTaps;
      Pixels<kPixels> in(x, t.x_tap);
      for (int m = 0; m < t.inputs; m++) {
        prefetcher.next();
        vec weight[kTaps][Q];
        IGC_TIMES (d, kTaps)
          IGC_TIMES (q, Q) weight[d][q] = load(w + (d * Q + q) * 16);
        IGC_TIMES (i, kPixels) {
          const vec v = once(broadcast<W>(in.at(i)));
          IGC_TIMES (d, kTaps) {
            const int p = (i - d) / STRIDE;
            if (i < d || (i - d) % STRIDE || p >= P) continue;
            IGC_TIMES (q, Q) acc[p][q] = fma(v, weight[d][q], acc[p][q]);
          }
        }
        in.advance(W);
        w += kTaps * Q * 16;
      }
    } else {
      for (int m = 0; m < t.inputs; m++) {
        Pixels<P> in(x + m * W, t.x_step);
        prefetcher.next();
        for (int d = 0; d < t.kernel_w; d++) {
          vec weight[Q];
          IGC_TIMES (q, Q) weight[q] = load(w + q * 16);
          IGC_TIMES (p, P) {
            const vec v = once(broadcast<W>(in.at(p)));
            IGC_TIMES (q, Q) acc[p][q] = fma(v, weight[q], acc[p][q]);
          }
          in.advance(t.x_tap);
          w += Q * 16;
        }
      }
    }
  }
}

// The secondary group convolution of L = 4 on accumulators: lane (m, l) becomes the sum over k of
// S_m[l][k] * lane (m, k).
template <int Q, int P>
IGC_INLINE void pointwise_in_registers(const ConvTask& t, vec (&acc)[P][Q]) {
  IGC_TIMES (q, Q) {
    const float* s = t.secondary + q * 64;
    const vec bias = load(t.bias + q * 16), s0 = load(s), s1 = load(s + 16), s2 = load(s + 32),
              s3 = load(s + 48);
    IGC_TIMES (p, P) {
      const vec v = acc[p][q];
      const vec even = fma(splat4<2>(v), s2, fma(splat4<0>(v), s0, bias));
      const vec odd = fma(splat4<3>(v), s3, mul(splat4<1>(v), s1));
      acc[p][q] = add(even, odd);
    }
  }
}

template <int W, int Q, int P, int STRIDE, bool SECONDARY>
IGC_INLINE void tile(const ConvTask& t, const float* x, float* y, const float* residual,
                     Prefetcher& prefetcher) {
  vec acc[P][Q];
  if (t.resume) {
    IGC_TIMES (p, P)
      IGC_TIMES (q, Q) acc[p][q] = load(y + p * t.y_pixel + q * 16);
  } else {
    IGC_TIMES (q, Q) {
      const vec bias = SECONDARY ? zero() : load(t.bias + q * 16);
      IGC_TIMES (p, P) acc[p][q] = bias;
    }
  }
  accumulate<W, Q, P, STRIDE>(t, x, prefetcher, acc);
  if constexpr (SECONDARY) pointwise_in_registers<Q, P>(t, acc);
  if (residual) {
    IGC_TIMES (p, P)
      IGC_TIMES (q, Q) acc[p][q] = add(acc[p][q], load(residual + p * t.r_pixel + q * 16));
  }
  if (t.activation != kLinear) {
    IGC_TIMES (p, P)
      IGC_TIMES (q, Q) acc[p][q] = max(zero(), acc[p][q]);
  }
  if (t.activation == kRelu6) {
    const vec six = splat(6);
    IGC_TIMES (p, P)
      IGC_TIMES (q, Q) acc[p][q] = min(six, acc[p][q]);
  }
  IGC_TIMES (p, P)
    IGC_TIMES (q, Q) store(y + p * t.y_pixel + q * 16, acc[p][q]);
}

template <int W, int Q, int P, int STRIDE, bool SECONDARY>
void rows(const ConvTask& t, int row_begin, int row_end) {
  Prefetcher prefetcher(t.next, t.prefetch);
  for (int r = row_begin; r < row_end; r++) {
    const float* x = t.x + r * t.x_row;
    float* y = t.y + r * t.y_row;
    const float* residual = t.residual ? t.residual + r * t.r_row : nullptr;
    for (int i = 0; i < t.width; i += P) {
      if (i + P > t.width) i = t.width - P;
      tile<W, Q, P, STRIDE, SECONDARY>(t, x + i * t.x_step, y + i * t.y_pixel,
                                       residual ? residual + i * t.r_pixel : nullptr, prefetcher);
    }
  }
  prefetcher.finish(t.next, t.prefetch);
}

template <int W, int Q, int STRIDE, bool SECONDARY>
ConvKernel choose_pixels(int width, int* tile) {
  Choice<ConvKernel> best(width);
  constexpr int more = (STRIDE ? kTaps : 1) * Q + 1;
  if constexpr (tile_fits(16, Q, more)) best.offer(16, rows<W, Q, 16, STRIDE, SECONDARY>);
  if constexpr (tile_fits(8, Q, more)) {
    best.offer(8, rows<W, Q, 8, STRIDE, SECONDARY>);
    best.offer(7, rows<W, Q, 7, STRIDE, SECONDARY>);
  } else if constexpr (tile_fits(6, Q, more))
    best.offer(6, rows<W, Q, 6, STRIDE, SECONDARY>);
  if constexpr (tile_fits(4, Q, more))
    best.offer(4, rows<W, Q, 4, STRIDE, SECONDARY>);
  else if constexpr (tile_fits(2, Q, more))
    best.offer(2, rows<W, Q, 2, STRIDE, SECONDARY>);
  if constexpr (tile_fits(1, Q, more)) best.offer(1, rows<W, Q, 1, STRIDE, SECONDARY>);
  *tile = best.tile;
  return best.value;
}

template <int W, int STRIDE, bool SECONDARY>
ConvKernel choose_vectors(int q, int width, int* tile) {
  constexpr int most = STRIDE ? kUnrolledVectors : kMaxVectors;
  if (q == 1) return choose_pixels<W, 1, STRIDE, SECONDARY>(width, tile);
  if constexpr (most >= 2)
    if (q == 2) return choose_pixels<W, 2, STRIDE, SECONDARY>(width, tile);
  if constexpr (most >= 3)
    if (q == 3) return choose_pixels<W, 3, STRIDE, SECONDARY>(width, tile);
  return nullptr;
}

template <int W, bool SECONDARY>
ConvKernel choose_stride(int q, int unrolled, int width, int* tile) {
  if constexpr (kUnrolledStrides >= 1)
    if (unrolled == 1) return choose_vectors<W, 1, SECONDARY>(q, width, tile);
  if constexpr (kUnrolledStrides >= 2)
    if (unrolled == 2) return choose_vectors<W, 2, SECONDARY>(q, width, tile);
  return choose_vectors<W, 0, SECONDARY>(q, width, tile);
}

// The stride of the unrolled kernel that serves, or 0.
int unrolled_stride(int kernel_w, int stride) {
  return kernel_w == kTaps && stride <= kUnrolledStrides ? stride : 0;
}

}  // namespace

ConvKernel conv_kernel(int w, int q, int kernel_w, int stride, bool secondary, int width, int* tile) {
  const int unrolled = unrolled_stride(kernel_w, stride);
  if (secondary) return w == 4 ? choose_stride<4, true>(q, unrolled, width, tile) : nullptr;
  switch (w) {
    case 1:
      return choose_stride<1, false>(q, unrolled, width, tile);
    case 2:
      return choose_stride<2, false>(q, unrolled, width, tile);
    case 4:
      return choose_stride<4, false>(q, unrolled, width, tile);
    case 8:
      return choose_stride<8, false>(q, unrolled, width, tile);
    case 16:
      return choose_stride<16, false>(q, unrolled, width, tile);
  }
  return nullptr;
}

int conv_vectors(int kernel_w, int stride) {
  return unrolled_stride(kernel_w, stride) ? kUnrolledVectors : kMaxVectors;
}

}  // namespace IGC_TARGET
}  // namespace igc
