// emulated.h - 16 elements in plain C++. What includes it says before what one is: `element`, to_element(float) and
// word_place.
#pragma once
#include "words.h"

namespace igc {
namespace IGC_TARGET {

struct Elements {
  element at[16];
};
typedef element element_anywhere __attribute__((may_alias, aligned(1)));

// N elements at p, from place `first` on.
template <int N>
IGC_INLINE void fetch(Elements& v, int first, const uint8_t* p) {
  for (int i = 0; i < N; i++) v.at[first + i] = ((const element_anywhere*)p)[i];
}
template <int N>
IGC_INLINE void put(uint8_t* p, const Elements& v, int first) {
  for (int i = 0; i < N; i++) ((element_anywhere*)p)[i] = v.at[first + i];
}
IGC_CALLED Elements elements_at(const uint8_t* p) {
  Elements v;
  fetch<16>(v, 0, p);
  return v;
}
IGC_CALLED Elements elements_8_8(const uint8_t* low, const uint8_t* high) {
  Elements v;
  fetch<8>(v, 0, low);
  fetch<8>(v, 8, high);
  return v;
}
IGC_CALLED Elements elements_4(const uint8_t* p0, const uint8_t* p1, const uint8_t* p2, const uint8_t* p3) {
  Elements v;
  const uint8_t* const from[4] = {p0, p1, p2, p3};
  for (int i = 0; i < 4; i++) fetch<4>(v, 4 * i, from[i]);
  return v;
}
IGC_CALLED void put_elements(uint8_t* p, const Elements& v) { put<16>(p, v, 0); }
IGC_CALLED void put_low8(uint8_t* p, const Elements& v) { put<8>(p, v, 0); }
IGC_CALLED void put_high8(uint8_t* p, const Elements& v) { put<8>(p, v, 8); }
template <int I>
IGC_INLINE void put_quarter(uint8_t* p, const Elements& v) {
  put<4>(p, v, 4 * I);
}
template <int W>
IGC_CALLED Elements words_to_lanes(const Elements& v) {
  Elements lanes;
  for (int j = 0; j < 16; j++) lanes.at[j] = v.at[word_place<W>(j)];
  return lanes;
}
template <int W>
IGC_CALLED Elements as_elements(const vec& v, bool words) {
  float lanes[16];
  Elements elements;
  store(lanes, v);
  for (int j = 0; j < 16; j++) elements.at[words ? word_place<W>(j) : j] = to_element(lanes[j]);
  return elements;
}
template <int W, int N, class Put>
IGC_INLINE void each_as_elements(const vec (&v)[N], bool words, Put put) {
  for (int i = 0; i < N; i++) put(i, as_elements<W>(v[i], words));
}
// Products of two floats and a sum, in one rounding.
IGC_CALLED vec fused(vec a, vec b, vec c) {
  float x[16], y[16], z[16];
  store(x, a);
  store(y, b);
  store(z, c);
  for (int i = 0; i < 16; i++) z[i] = __builtin_fmaf(x[i], y[i], z[i]);
  return load(z);
}

}  // namespace IGC_TARGET
}  // namespace igc
