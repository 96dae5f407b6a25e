// amx_mix.cpp - the secondary of an IGC block in float32, over sums that a primary on AMX has left in L1.
//
// Where the channels of a group lie together, lanes run over the partitions, which the secondary does not mix: it is a
// product of vectors, without shuffles. On tiles it would need every pixel transposed first.
// Register tile: 4 pixels x 4 vectors of outputs, 16 sums + 8 weights + 2 inputs of 32.
#include "tiles.h"

namespace igc {
namespace IGC_TARGET {
namespace {

// Lanes 1, 0, 3, 2, ...
#if IGC_LANES == 16
IGC_INLINE vec neighbors(vec v) { return _mm512_permute_ps(v, 0xB1); }
#else
IGC_CALLED vec neighbors(vec v) {
  float lanes[16], other[16];
  store(lanes, v);
  for (int i = 0; i < 16; i++) other[i] = lanes[i ^ 1];
  return load(other);
}
#endif

template <int GROUPS, int N, int P>
IGC_INLINE void pixels(const AmxMixTask& t, const uint8_t* x, uint8_t* y, const uint8_t* residual) {
  vec sum[P * N];
  IGC_TIMES (i, P * N) sum[i] = load(t.bias + i % N * 16);
  const float* w = t.weights;
  for (int k = 0; k < t.steps; k++, w += GROUPS * N * 16) {
    const uint8_t* const from = x + t.inputs[k];
    vec weight[GROUPS * N];
    IGC_TIMES (i, GROUPS * N) weight[i] = load(w + i * 16);
    IGC_TIMES (p, P) {
      const vec v = to_floats(sums_at(from + p * t.x_pixel));
      IGC_TIMES (n, N) sum[p * N + n] = fused(v, weight[n], sum[p * N + n]);
      if constexpr (GROUPS == 2) {
        const vec u = neighbors(v);
        IGC_TIMES (n, N) sum[p * N + n] = fused(u, weight[N + n], sum[p * N + n]);
      }
    }
  }
  write_out<N>(t, t.offset, sum, y, residual);
}

template <int GROUPS, int N>
void rows(const AmxMixTask& t, int row_begin, int row_end) {
  for (int r = row_begin; r < row_end; r++) {
    const uint8_t *x = t.x + r * t.x_row, *residual = t.residual ? t.residual + r * t.r_row : nullptr;
    uint8_t* y = t.y + r * t.y_row;
    const auto at = [&](int i) { return residual ? residual + i * t.r_pixel : nullptr; };
    int i = 0;
    for (; i + 4 <= t.width; i += 4) pixels<GROUPS, N, 4>(t, x + i * t.x_pixel, y + i * t.y_pixel, at(i));
    for (; i < t.width; i++) pixels<GROUPS, N, 1>(t, x + i * t.x_pixel, y + i * t.y_pixel, at(i));
  }
}

template <int GROUPS>
AmxMixKernel choose_vectors(int n) {
  return n == 4 ? rows<GROUPS, 4> : n == 3 ? rows<GROUPS, 3> : n == 2 ? rows<GROUPS, 2> : rows<GROUPS, 1>;
}

}  // namespace

AmxMixKernel mix_kernel(int groups, int n) {
  return groups == 2 ? choose_vectors<2>(n) : choose_vectors<1>(n);
}

}  // namespace IGC_TARGET
}  // namespace igc
