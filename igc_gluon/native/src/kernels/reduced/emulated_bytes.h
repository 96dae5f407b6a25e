// emulated_bytes.h - what bytes.h gives, to the same bits, in plain C++: so that every machine tests it.
#pragma once
#include "words.h"

namespace igc {
namespace IGC_TARGET {

constexpr Element kElement = Element::Byte;
constexpr int kParts = 1;
typedef Words Sums;
typedef Words Inputs;
typedef Words Weights;
typedef uint8_t element;

// Where lane j of a vector of W groups lies among its words: w of four members for every four m'. Only vectors of four
// groups or fewer are written so.
template <int W>
constexpr int word_place(int j) {
  return W > 4 ? j : j / (4 * W) * (4 * W) + j % W * 4 + j / W % 4;
}
// VCVTPS2DQ, halves to even, clipped to 0..255. What does not fit into 32 bits, NaN too, becomes the lowest integer.
IGC_INLINE element to_element(float v) {
  if (!(v > 0) || v >= 2147483648.0f) return 0;
  return (uint8_t)(v >= 255 ? 255.0f : __builtin_rintf(v));
}

}  // namespace IGC_TARGET
}  // namespace igc
#include "emulated.h"
namespace igc {
namespace IGC_TARGET {

IGC_CALLED Sums zero_sums() { return Sums{}; }
IGC_CALLED Sums pair_sum(const Sums& a, const Sums& b) {
  Sums sum;
  for (int i = 0; i < 8; i++) {
    sum.at[i] = a.at[2 * i] + a.at[2 * i + 1];
    sum.at[8 + i] = b.at[2 * i] + b.at[2 * i + 1];
  }
  return sum;
}
IGC_INLINE Sums quad_sum(const Sums& a, const Sums& b, const Sums& c, const Sums& d) {
  return pair_sum(pair_sum(a, b), pair_sum(c, d));
}
IGC_CALLED vec to_floats(const Sums& sums) {
  float lanes[16];
  for (int i = 0; i < 16; i++) lanes[i] = (float)(int32_t)sums.at[i];
  return load(lanes);
}
IGC_CALLED vec to_floats(const Elements& bytes) {
  float lanes[16];
  for (int i = 0; i < 16; i++) lanes[i] = bytes.at[i];
  return load(lanes);
}
IGC_INLINE Weights weights_at(const uint8_t* p) { return broadcast_words<16>(p); }
IGC_INLINE Inputs as_inputs(const Words& words) { return words; }
// Of one word: four unsigned bytes of x by four signed ones of w.
IGC_INLINE uint32_t dot(uint32_t x, uint32_t w) {
  int32_t sum = 0;
  for (int b = 0; b < 32; b += 8) sum += (int32_t)(uint8_t)(x >> b) * (int8_t)(uint8_t)(w >> b);
  return (uint32_t)sum;
}
IGC_CALLED void add_products(Sums& sum, const Inputs& x, const Weights& w) {
  for (int i = 0; i < 16; i++) sum.at[i] += dot(x.at[i], w.at[i]);
}

IGC_INLINE vec in_unit(vec v, const ConvertTask& t) {
  return min(splat(255), fused(v, splat(t.scale), splat(t.shift)));
}
IGC_INLINE vec from_unit(const Elements& v, const ConvertTask& t) {
  return fused(to_floats(v), splat(t.scale), splat(t.shift));
}
template <int LANES>
IGC_CALLED void transpose(const uint8_t* x, uint8_t* y, int) {
  uint8_t run[4 * LANES];
  for (int i = 0; i < LANES; i++)
    for (int m = 0; m < 4; m++) run[4 * i + m] = x[m * LANES + i];
  __builtin_memcpy(y, run, sizeof run);
}

IGC_INLINE vec finished(const Sums& sum, const float* scale, const float* bias) {
  return fused(to_floats(sum), load(scale), load(bias));
}
IGC_INLINE vec with_residual(vec v, const Elements& residual, float scale) {
  return fused(to_floats(residual), splat(scale), v);
}
IGC_INLINE vec clipped(vec v, const Epilogue& epilogue) {
  return epilogue.floats ? min(splat(epilogue.highest), max(splat(epilogue.lowest), v)) : v;
}

}  // namespace IGC_TARGET
}  // namespace igc
