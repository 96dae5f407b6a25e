// train_weights.cpp - gradients of packed weights: sums of outer products over pixels.
//
// The accumulators are the weights themselves, in the order in which conv.cpp and pointwise.cpp read them, so that
// a gradient needs no shuffle and is unpacked by the map that packs. A tile holds some of them in registers
// while it runs over all pixels of its rows, and adds them to memory at the end.
//
// Convolution: T taps of a row x MI input channels x Q vectors of outputs. For each pixel Q + T * MI loads
// and T * MI * Q multiply-adds. AVX-512: 3 x 4 x 2 = 24 accumulators + 2 + 1 of 32 registers, 14 loads for 24
// multiply-adds. AVX2: 3 x 2 x 1 (12 + 2 + 2 of 16). Portable: 1 x 2 x 1 (8 + 4 + 4).
//
// 1x1 product: K steps of S inputs x N units. The 16 / S outputs of a unit are spread over the lanes.
// AVX-512: 8 x 3 accumulators + 3 + 1, 11 loads for 24 multiply-adds; 16 x 1. AVX2: 4 x 1. Portable: 2 x 1.
#include "train_kernels.h"
#include "train_simd.h"

namespace igc {
namespace IGC_TARGET {
namespace {

template <int W, int Q, int T, int MI>
void conv_tile(const ConvWeightTask& t, const float* x, const float* d, float* w, ptrdiff_t per_input,
               ptrdiff_t per_tap, int rows) {
  vec acc[MI][T][Q];
  IGC_TIMES (m, MI)
    IGC_TIMES (k, T)
      IGC_TIMES (q, Q) acc[m][k][q] = load(w + m * per_input + k * per_tap + q * 16);
  for (int r = 0; r < rows; r++, x += t.x_row, d += t.d_row) {
    const float *in = x, *out = d;
    for (int i = 0; i < t.width; i++, in += t.x_step, out += t.d_pixel) {
      vec g[Q];
      IGC_TIMES (q, Q) g[q] = load(out + q * 16);
      IGC_TIMES (k, T)
        IGC_TIMES (m, MI) {
          const vec v = broadcast<W>(in + k * t.x_tap + m * W);
          IGC_TIMES (q, Q) acc[m][k][q] = fma(v, g[q], acc[m][k][q]);
        }
    }
  }
  IGC_TIMES (m, MI)
    IGC_TIMES (k, T)
      IGC_TIMES (q, Q) store(w + m * per_input + k * per_tap + q * 16, acc[m][k][q]);
}

// As many of `left` input channels as a tile takes; x and w at the first of them. Returns how many.
template <int W, int Q, int T, int MI = 8>
IGC_INLINE int conv_inputs(const ConvWeightTask& t, const float* x, const float* d, float* w,
                           ptrdiff_t per_input, ptrdiff_t per_tap, int rows, int left) {
  if constexpr (MI > 1 && !tile_fits(T * MI, Q, Q + 1)) {
    return conv_inputs<W, Q, T, MI / 2>(t, x, d, w, per_input, per_tap, rows, left);
  } else {
    if (left >= MI) {
      conv_tile<W, Q, T, MI>(t, x, d, w, per_input, per_tap, rows);
      return MI;
    }
    if constexpr (MI > 1) return conv_inputs<W, Q, T, MI / 2>(t, x, d, w, per_input, per_tap, rows, left);
    return 0;
  }
}

constexpr int kTaps = tile_fits(3, 1, 2) ? 3 : 1;

template <int W, int Q, int TAPS>
void conv_rows_of(const ConvWeightTask& t, int row_begin, int row_end) {
  const ptrdiff_t per_tap = Q * 16, per_input = t.kernel_w * per_tap;
  const float* d = t.d + row_begin * t.d_row;
  for (int dy = 0; dy < t.kernel_h; dy++) {
    const float* line = t.x + row_begin * t.x_row + dy * t.x_line;
    float* w = t.w + dy * t.inputs * per_input;
    for (int m = 0, done; m < t.inputs; m += done) {
      const int left = t.inputs - m, rows = row_end - row_begin;
      done = left;
      for (int dx = 0; dx < t.kernel_w;) {
        const float* x = line + m * W + dx * t.x_tap;
        float* at = w + m * per_input + dx * per_tap;
        done = conv_inputs<W, Q, TAPS>(t, x, d, at, per_input, per_tap, rows, left);
        dx += TAPS;
      }
    }
  }
}

template <int W, int Q>
void conv_rows(const ConvWeightTask& t, int row_begin, int row_end) {
  // The stem of networks for ImageNet: its single floats are read one tap at a time.
  constexpr int seven = W == 1 && tile_fits(7, Q, Q + 1) ? 7 : 1;
  if (t.kernel_w % 7 == 0)
    conv_rows_of<W, Q, seven>(t, row_begin, row_end);
  else if (t.kernel_w % kTaps == 0)
    conv_rows_of<W, Q, kTaps>(t, row_begin, row_end);
  else
    conv_rows_of<W, Q, 1>(t, row_begin, row_end);
}

template <int W>
ConvWeightKernel choose_conv(int q) {
  if (q == 1) return conv_rows<W, 1>;
  if constexpr (kMaxVectors >= 3) {
    if (q == 2) return conv_rows<W, 2>;
    if (q == 3) return conv_rows<W, 3>;
  }
  return nullptr;
}

ConvWeightKernel conv_weights(int w, int q) {
  switch (w) {
    case 1:
      return choose_conv<1>(q);
    case 2:
      return choose_conv<2>(q);
    case 4:
      return choose_conv<4>(q);
    case 8:
      return choose_conv<8>(q);
    case 16:
      return choose_conv<16>(q);
  }
  return nullptr;
}

template <int S, int N, int K>
void pointwise_tile(const PointwiseWeightTask& t, const float* x, const float* d, float* w, int rows) {
  vec acc[K][N];
  IGC_TIMES (k, K)
    IGC_TIMES (n, N) acc[k][n] = load(w + (k * N + n) * 16);
  for (int r = 0; r < rows; r++, x += t.x_row, d += t.d_row) {
    const float *in = x, *out = d;
    for (int i = 0; i < t.width; i++, in += t.x_pixel, out += t.d_pixel) {
      vec g[N];
      IGC_TIMES (n, N) g[n] = spread<S>(out + t.offset[n]);
      IGC_TIMES (k, K) {
        const vec v = broadcast<S>(in + k * S);
        IGC_TIMES (n, N) acc[k][n] = fma(v, g[n], acc[k][n]);
      }
    }
  }
  IGC_TIMES (k, K)
    IGC_TIMES (n, N) store(w + (k * N + n) * 16, acc[k][n]);
}

template <int S, int N, int K = 16>
IGC_INLINE int pointwise_steps(const PointwiseWeightTask& t, const float* x, const float* d, float* w,
                               int rows, int left) {
  if constexpr (K > 1 && !tile_fits(K, N, N + 1)) {
    return pointwise_steps<S, N, K / 2>(t, x, d, w, rows, left);
  } else {
    if (left >= K) {
      pointwise_tile<S, N, K>(t, x, d, w, rows);
      return K;
    }
    if constexpr (K > 1) return pointwise_steps<S, N, K / 2>(t, x, d, w, rows, left);
    return 0;
  }
}

template <int S, int N>
void pointwise_rows(const PointwiseWeightTask& t, int row_begin, int row_end) {
  const float *d = t.d + row_begin * t.d_row, *x = t.x + row_begin * t.x_row;
  float* w = t.w;
  for (int i = 0; i < t.n_segments; i++) {
    const int steps = t.segments[i].length / S;
    for (int k = 0, done; k < steps; k += done, w += done * N * 16)
      done = pointwise_steps<S, N>(t, x + t.segments[i].offset + k * S, d, w, row_end - row_begin, steps - k);
  }
}

template <int S>
PointwiseWeightKernel choose_pointwise(int n) {
  if (n == 1) return pointwise_rows<S, 1>;
  if constexpr (kMaxVectors >= 3) {
    if (n == 2) return pointwise_rows<S, 2>;
    if (n == 3) return pointwise_rows<S, 3>;
  }
  return nullptr;
}

PointwiseWeightKernel pointwise_weights(int s, int n) {
  if (s == 1) return choose_pointwise<1>(n);
  if (s == 2) return choose_pointwise<2>(n);
  if (s == 4) return choose_pointwise<4>(n);
  return nullptr;
}

}  // namespace

ConvWeightKernel train_conv_weights(int w, int q) { return conv_weights(w, q); }
PointwiseWeightKernel train_pointwise_weights(int s, int n) { return pointwise_weights(s, n); }

}  // namespace IGC_TARGET
}  // namespace igc
