// channelwise.cpp - the 3x3 convolution of each channel by itself (IGCV2, IGCV3), stride 1 or 2.
//
// A vector is 16 channels, of which every tap needs one weight vector: all 9 stay in registers along a row.
// Register tile, AVX-512: P = 8 pixels; for each of the 3 rows of taps 10 (stride 1) or 17 (stride 2) inputs
// are loaded for 24 multiply-adds; 8 accumulators + 9 weights + 1 input = 18 registers; with 16 pixels 26,
// and 54 loads for 144. AVX2 takes 4 pixels and reads the weights again for every tile: (4 + 3 + 1) x 2 = 16
// registers. There is one multiply-add per load at best elsewhere, so anything else is left to conv.cpp.
#include "kernels.h"
#include "simd.h"

namespace igc {
namespace IGC_TARGET {
namespace {

template <int P, int STRIDE>
IGC_INLINE void tile(const ConvTask& t, const vec (&weight)[9], const vec bias, const float* x, float* y,
                     const float* residual) {
  vec acc[P];
  IGC_TIMES (p, P) acc[p] = bias;
  IGC_TIMES (dy, 3) {
    const float* row = x + dy * t.x_line;
    IGC_TIMES (i, (P - 1) * STRIDE + 3) {
      const vec v = load(row + i * t.x_tap);
      IGC_TIMES (d, 3) {
        if (i < d || (i - d) % STRIDE || (i - d) / STRIDE >= P) continue;
        acc[(i - d) / STRIDE] = fma(v, weight[dy * 3 + d], acc[(i - d) / STRIDE]);
      }
    }
  }
  if (residual) {
    IGC_TIMES (p, P) acc[p] = add(acc[p], load(residual + p * t.r_pixel));
  }
  if (t.activation != kLinear) {
    IGC_TIMES (p, P) acc[p] = max(zero(), acc[p]);
  }
  if (t.activation == kRelu6) {
    const vec six = splat(6);
    IGC_TIMES (p, P) acc[p] = min(six, acc[p]);
  }
  IGC_TIMES (p, P) store(y + p * t.y_pixel, acc[p]);
}

template <int P, int STRIDE>
void rows(const ConvTask& t, int row_begin, int row_end) {
  vec weight[9];
  IGC_TIMES (i, 9) weight[i] = load(t.weights + i * 16);
  const vec bias = load(t.bias);
  for (int r = row_begin; r < row_end; r++) {
    const float* x = t.x + r * t.x_row;
    float* y = t.y + r * t.y_row;
    const float* residual = t.residual ? t.residual + r * t.r_row : nullptr;
    for (int i = 0; i < t.width; i += P) {
      if (i + P > t.width) i = t.width - P;
      tile<P, STRIDE>(t, weight, bias, x + i * t.x_step, y + i * t.y_pixel,
                      residual ? residual + i * t.r_pixel : nullptr);
    }
  }
}

template <int STRIDE>
ConvKernel choose_pixels(int width) {
  Choice<ConvKernel> best(width);
  if constexpr (tile_fits(16, 1, 10)) best.offer(16, rows<16, STRIDE>);
  if constexpr (tile_fits(8, 1, 10)) {
    best.offer(14, rows<14, STRIDE>);
    best.offer(8, rows<8, STRIDE>);
    best.offer(7, rows<7, STRIDE>);
  }
  if constexpr (tile_fits(4, 1, 4))
    best.offer(4, rows<4, STRIDE>);
  else
    best.offer(2, rows<2, STRIDE>);
  best.offer(1, rows<1, STRIDE>);
  return best.value;
}

}  // namespace

ConvKernel channelwise_kernel(int stride, int width) {
  return stride == 1 ? choose_pixels<1>(width) : stride == 2 ? choose_pixels<2>(width) : nullptr;
}

}  // namespace IGC_TARGET
}  // namespace igc
