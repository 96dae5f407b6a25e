// reduced_conv.cpp - group convolution of bytes or bfloat16: ../conv.cpp with words of members where that has floats.
//
// Register tile, AVX-512: P = 8 pixels x Q = 2 vectors. With stride 1 and 3 taps in a row, for every (dy, word): 6
// weight vectors + 10 inputs loaded for 48 dot products, of 16 words each; 16 accumulators + 6 weights + 1
// input = 23 of 32 registers. A single vector takes 16 pixels.
// AVX2 with VNNI: 4 pixels x 1 (8 + 6 + 2 registers of 16), without sliding 6 x 1; AVX2: 4 x 1 (8 + 4 + 4).
//
// The secondary of L = 4 works on the accumulators in float32: reduced too it would need a step between,
// which costs more than its 4 multiply-adds per vector.
#include "words.h"

namespace igc {
namespace IGC_TARGET {
namespace {

template <int P>
struct Pixels {
  const uint8_t* base[(P + 2) / 3];
  ptrdiff_t step;
  IGC_INLINE Pixels(const uint8_t* x, ptrdiff_t step_) : step(step_) {
    IGC_TIMES (i, (P + 2) / 3) base[i] = x + 3 * i * step_;
  }
  IGC_INLINE const uint8_t* at(int i) const { return base[i / 3] + (i % 3) * step; }
  IGC_INLINE void advance(ptrdiff_t by) {
    IGC_TIMES (i, (P + 2) / 3) base[i] += by;
  }
};

// TAPS = 3: stride 1, three taps in a row. TAPS = 0: any kernel width and stride.
template <int W, int Q, int P, int TAPS>
IGC_INLINE void accumulate(const ReducedConvTask& t, const uint8_t* x, Sums (&sum)[P][Q]) {
  const uint8_t* w = t.weights;
  for (int dy = 0; dy < t.kernel_h; dy++, x += t.x_line) {
    if constexpr (TAPS > 0) {
      Pixels<P + TAPS - 1> in(x, t.x_tap);
      _Pragma("GCC unroll 2") for (int m = 0; m < t.words; m++) {
        Weights weight[TAPS][Q];
        IGC_TIMES (d, TAPS)
          IGC_TIMES (q, Q) weight[d][q] = weights_at(w + (d * Q + q) * 64);
        IGC_TIMES (i, P + TAPS - 1) {
          const Inputs v = as_inputs(broadcast_words<W>(in.at(i)));
          IGC_TIMES (d, TAPS) {
            if (i - d < 0 || i - d >= P) continue;
            IGC_TIMES (q, Q) add_products(sum[i - d][q], v, weight[d][q]);
          }
        }
        in.advance(4 * W);
        w += TAPS * Q * 64;
      }
    } else {
      for (int m = 0; m < t.words; m++) {
        Pixels<P> in(x + m * 4 * W, t.x_step);
        for (int d = 0; d < t.kernel_w; d++) {
          Weights weight[Q];
          IGC_TIMES (q, Q) weight[q] = weights_at(w + q * 64);
          IGC_TIMES (p, P) {
            const Inputs v = as_inputs(broadcast_words<W>(in.at(p)));
            IGC_TIMES (q, Q) add_products(sum[p][q], v, weight[q]);
          }
          in.advance(t.x_tap);
          w += Q * 64;
        }
      }
    }
  }
}

template <int W, int Q, int P, int TAPS, bool SECONDARY>
IGC_INLINE void tile(const ReducedConvTask& t, const uint8_t* x, uint8_t* y, const uint8_t* residual) {
  Sums sum[P][Q];
  IGC_TIMES (p, P)
    IGC_TIMES (q, Q) sum[p][q] = zero_sums();
  accumulate<W, Q, P, TAPS>(t, x, sum);
  IGC_TIMES (q, Q) {
    vec result[P];
    if constexpr (SECONDARY) {
      const float* s = t.secondary + q * 64;
      const vec bias = load(t.bias + q * 16), s0 = load(s), s1 = load(s + 16), s2 = load(s + 32),
                s3 = load(s + 48);
      IGC_TIMES (p, P) {
        const vec v = to_floats(sum[p][q]);
        const vec even = fused(splat4<2>(v), s2, fused(splat4<0>(v), s0, bias));
        const vec odd = fused(splat4<3>(v), s3, mul(splat4<1>(v), s1));
        result[p] = add(even, odd);
      }
    } else {
      IGC_TIMES (p, P) result[p] = finished(sum[p][q], t.scale + q * 16, t.bias + q * 16);
    }
    if (residual) {
      IGC_TIMES (p, P) {
        Elements r = elements_at(residual + p * t.r_pixel + q * 16 * kBytes);
        if (t.r_words) r = words_to_lanes<W>(r);
        result[p] = with_residual(result[p], r, t.epilogue.residual_scale);
      }
    }
    IGC_TIMES (p, P) result[p] = clipped(result[p], t.epilogue);
    if (t.epilogue.floats) {
      IGC_TIMES (p, P) store((float*)(y + p * t.y_pixel) + q * 16, result[p]);
    } else {
      each_as_elements<W>(result, t.y_words, [&](int p, const Elements& elements) IGC_ALWAYS {
        put_elements(y + p * t.y_pixel + q * 16 * kBytes, elements);
      });
    }
  }
}

template <int W, int Q, int P, int TAPS, bool SECONDARY>
void rows(const ReducedConvTask& t, int row_begin, int row_end) {
  for (int r = row_begin; r < row_end; r++) {
    const uint8_t* x = t.x + r * t.x_row;
    uint8_t* y = t.y + r * t.y_row;
    const uint8_t* residual = t.residual ? t.residual + r * t.r_row : nullptr;
    for (int i = 0; i < t.width; i += P) {
      if (i + P > t.width) i = t.width - P;
      tile<W, Q, P, TAPS, SECONDARY>(t, x + i * t.x_step, y + i * t.y_pixel,
                                     residual ? residual + i * t.r_pixel : nullptr);
    }
  }
}

template <int W, int Q, int TAPS, bool SECONDARY>
ReducedConvKernel choose_pixels(int width) {
  Choice<ReducedConvKernel> best(width);
  constexpr int more = ((TAPS ? TAPS : 1) * Q + 1) * kParts;
  if constexpr (reduced_tile_fits(16, Q, more)) best.offer(16, rows<W, Q, 16, TAPS, SECONDARY>);
  if constexpr (reduced_tile_fits(8, Q, more)) {
    best.offer(8, rows<W, Q, 8, TAPS, SECONDARY>);
    best.offer(7, rows<W, Q, 7, TAPS, SECONDARY>);
  } else if constexpr (reduced_tile_fits(6, Q, more))
    best.offer(6, rows<W, Q, 6, TAPS, SECONDARY>);
  best.offer(4, rows<W, Q, 4, TAPS, SECONDARY>);
  best.offer(1, rows<W, Q, 1, TAPS, SECONDARY>);
  return best.value;
}

template <int W, int Q, bool SECONDARY>
ReducedConvKernel choose_taps(bool sliding, int width) {
  // Three taps of spread bytes and their sums do not fit into the registers.
  if constexpr (kParts == 1)
    if (sliding) return choose_pixels<W, Q, 3, SECONDARY>(width);
  return choose_pixels<W, Q, 0, SECONDARY>(width);
}

template <int W, bool SECONDARY>
ReducedConvKernel choose_vectors(int q, bool sliding, int width) {
  if constexpr (kReducedVectors >= 2)
    if (q == 2) return choose_taps<W, 2, SECONDARY>(sliding, width);
  return choose_taps<W, 1, SECONDARY>(sliding, width);
}

}  // namespace

ReducedConvKernel conv_kernel(int w, int q, int kernel_w, int stride, bool secondary, int width) {
  const bool sliding = kernel_w == 3 && stride == 1;
  if (secondary) return choose_vectors<4, true>(q, sliding, width);
  switch (w) {
    case 1:
      return choose_vectors<1, false>(q, sliding, width);
    case 2:
      return choose_vectors<2, false>(q, sliding, width);
    case 4:
      return choose_vectors<4, false>(q, sliding, width);
    case 8:
      return choose_vectors<8, false>(q, sliding, width);
    default:
      return choose_vectors<16, false>(q, sliding, width);
  }
}

}  // namespace IGC_TARGET
}  // namespace igc
