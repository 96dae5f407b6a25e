// bfloat16.h - sums of products of bfloat16, with AVX512-BF16 or in plain C++, to the same bits.
//
// VDPBF16PS, as Intel and AMD document it: of each lane first the product of the odd elements, then that of the even
// ones is added to the sum, each multiplied and added with one rounding, to nearest even; subnormal elements, sums and
// results are zeros of their sign, whatever the processor's control register says. VCVTNEPS2BF16 rounds to nearest
// even, subnormal numbers to zeros; a NaN stays one.
// A product of two bfloat16 is exact in double, and a sum of it and a float that is rounded to double and then to float
// is what one rounding gives, as double has more than twice the digits of float and two more.
#pragma once
#include "words.h"

namespace igc {
namespace IGC_TARGET {

constexpr Element kElement = Element::Bfloat16;
constexpr int kParts = 1;
typedef vec Sums;
typedef Words Inputs;
typedef Words Weights;

IGC_INLINE Sums zero_sums() { return zero(); }
IGC_INLINE Inputs as_inputs(Words words) { return words; }
IGC_INLINE Weights weights_at(const uint8_t* p) { return broadcast_words<16>(p); }
IGC_INLINE vec to_floats(vec v) { return v; }

// Where lane j of a vector of W groups lies among its words: w of two members for every two m'.
template <int W>
constexpr int word_place(int j) {
  return W == 16 ? j : j / (2 * W) * (2 * W) + j % W * 2 + j / W % 2;
}

#if IGC_LANES == 16

typedef __m256i Elements;

IGC_INLINE Elements elements_at(const uint8_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
IGC_INLINE Elements elements_8_8(const uint8_t* low, const uint8_t* high) {
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)low)),
                                 _mm_loadu_si128((const __m128i*)high), 1);
}
IGC_INLINE Elements elements_4(const uint8_t* p0, const uint8_t* p1, const uint8_t* p2, const uint8_t* p3) {
  const auto two = [](const uint8_t* a, const uint8_t* b) IGC_ALWAYS {
    return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i*)a), _mm_loadl_epi64((const __m128i*)b));
  };
  return _mm256_inserti128_si256(_mm256_castsi128_si256(two(p0, p1)), two(p2, p3), 1);
}
IGC_INLINE void put_elements(uint8_t* p, Elements v) { _mm256_storeu_si256((__m256i*)p, v); }
IGC_INLINE void put_low8(uint8_t* p, Elements v) { _mm_storeu_si128((__m128i*)p, _mm256_castsi256_si128(v)); }
IGC_INLINE void put_high8(uint8_t* p, Elements v) {
  _mm_storeu_si128((__m128i*)p, _mm256_extracti128_si256(v, 1));
}
template <int I>
IGC_INLINE void put_quarter(uint8_t* p, Elements v) {
  const __m128i half = I < 2 ? _mm256_castsi256_si128(v) : _mm256_extracti128_si256(v, 1);
  _mm_storel_epi64((__m128i*)p, I % 2 ? _mm_unpackhi_epi64(half, half) : half);
}
IGC_INLINE vec to_floats(Elements v) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

// `place` of 16 elements, for both halves of a register. INVERSE: back.
template <int W, bool INVERSE>
IGC_INLINE __m512i words_shuffle() {
  alignas(64) uint16_t from[32];
  IGC_TIMES (j, 32) {
    const int place = j / 16 * 16 + word_place<W>(j % 16);
    from[INVERSE ? j : place] = (uint16_t)(INVERSE ? place : j);
  }
  return _mm512_load_si512(from);
}
template <int W>
IGC_INLINE Elements words_to_lanes(Elements v) {
  return _mm512_castsi512_si256(
      _mm512_permutexvar_epi16(words_shuffle<W, true>(), _mm512_castsi256_si512(v)));
}
// Of two vectors, the second in the upper half.
IGC_INLINE __m512i rounded(vec a, vec b) {
  __m512i both;
  __asm__("vcvtne2ps2bf16 %2, %1, %0" : "=v"(both) : "v"(b), "v"(a));
  return both;
}
// Calls put(i, elements) for each of N vectors, their elements in the order of words of W groups where `words` says so.
template <int W, int N, class Put>
IGC_INLINE void each_as_elements(const vec (&v)[N], bool words, Put put) {
  IGC_TIMES (g, (N + 1) / 2) {
    __m512i two = rounded(v[2 * g], v[2 * g + 1 < N ? 2 * g + 1 : 2 * g]);
    if constexpr (W != 1 && W != 16)
      if (words) two = _mm512_permutexvar_epi16(words_shuffle<W, false>(), two);
    put(2 * g, _mm512_castsi512_si256(two));
    if (2 * g + 1 < N) put(2 * g + 1, _mm512_extracti64x4_epi64(two, 1));
  }
}
IGC_INLINE void add_products(Sums& sum, const Inputs& x, const Weights& w) {
  __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}
IGC_INLINE vec fused(vec a, vec b, vec c) { return fma(a, b, c); }
// [2 members][lanes] -> [lanes][2 members], with zeros for an absent second member: what stood in its place might be
// infinite.
template <int LANES>
IGC_INLINE void transpose(const uint8_t* x, uint8_t* y, int members) {
  const uint8_t* const second = x + 2 * LANES;
  if constexpr (LANES == 16) {
    const __m512i low = _mm512_cvtepu16_epi32(elements_at(x));
    const __m512i high = members < 2 ? _mm512_setzero_si512()
                                     : _mm512_slli_epi32(_mm512_cvtepu16_epi32(elements_at(second)), 16);
    _mm512_storeu_si512(y, _mm512_or_si512(low, high));
  } else if constexpr (LANES == 8) {
    const __m128i low = _mm_loadu_si128((const __m128i*)x);
    const __m128i high = members < 2 ? _mm_setzero_si128() : _mm_loadu_si128((const __m128i*)second);
    _mm_storeu_si128((__m128i*)y, _mm_unpacklo_epi16(low, high));
    _mm_storeu_si128((__m128i*)(y + 16), _mm_unpackhi_epi16(low, high));
  } else if constexpr (LANES == 4) {
    const __m128i low = _mm_loadl_epi64((const __m128i*)x);
    const __m128i high = members < 2 ? _mm_setzero_si128() : _mm_loadl_epi64((const __m128i*)second);
    _mm_storeu_si128((__m128i*)y, _mm_unpacklo_epi16(low, high));
  } else {
    uint16_t run[2 * LANES];
    for (int i = 0; i < LANES; i++) {
      __builtin_memcpy(run + 2 * i, x + 2 * i, 2);
      run[2 * i + 1] = 0;
      if (members >= 2) __builtin_memcpy(run + 2 * i + 1, second + 2 * i, 2);
    }
    __builtin_memcpy(y, run, sizeof run);
  }
}

#else  // emulated

typedef uint16_t element;

IGC_INLINE float float_of(uint32_t bits) {
  float v;
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}
IGC_INLINE uint32_t bits_of(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
IGC_INLINE float flushed(float v) {
  const uint32_t bits = bits_of(v);
  return bits & 0x7f800000 ? v : float_of(bits & 0x80000000);
}
IGC_INLINE element to_element(float v) {
  const uint32_t bits = bits_of(flushed(v));
  if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);  // NaN
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

}  // namespace IGC_TARGET
}  // namespace igc
#include "emulated.h"
namespace igc {
namespace IGC_TARGET {

IGC_CALLED vec to_floats(const Elements& v) {
  float lanes[16];
  for (int i = 0; i < 16; i++) lanes[i] = float_of((uint32_t)v.at[i] << 16);
  return load(lanes);
}
IGC_INLINE float plus_product(float sum, uint32_t x, uint32_t w) {
  return flushed((float)((double)sum + (double)flushed(float_of(x)) * (double)flushed(float_of(w))));
}
IGC_CALLED void add_products(Sums& sum, const Inputs& x, const Weights& w) {
  float lanes[16];
  store(lanes, sum);
  for (int i = 0; i < 16; i++) {
    const float odd = plus_product(flushed(lanes[i]), x.at[i] & 0xffff0000, w.at[i] & 0xffff0000);
    lanes[i] = plus_product(odd, x.at[i] << 16, w.at[i] << 16);
  }
  sum = load(lanes);
}
template <int LANES>
IGC_CALLED void transpose(const uint8_t* x, uint8_t* y, int members) {
  uint16_t run[2 * LANES];
  for (int i = 0; i < LANES; i++) {
    run[2 * i] = ((const element_anywhere*)x)[i];
    run[2 * i + 1] = members < 2 ? (uint16_t)0 : ((const element_anywhere*)x)[LANES + i];
  }
  __builtin_memcpy(y, run, sizeof run);
}

#endif

IGC_INLINE vec in_unit(vec v, const ConvertTask&) { return v; }
IGC_INLINE vec from_unit(const Elements& v, const ConvertTask&) { return to_floats(v); }

IGC_INLINE vec finished(Sums sum, const float*, const float* bias) { return add(sum, load(bias)); }
IGC_INLINE vec with_residual(vec v, const Elements& residual, float) { return add(v, to_floats(residual)); }
IGC_INLINE vec clipped(vec v, const Epilogue& epilogue) {
  return min(splat(epilogue.highest), max(splat(epilogue.lowest), v));
}

}  // namespace IGC_TARGET
}  // namespace igc
