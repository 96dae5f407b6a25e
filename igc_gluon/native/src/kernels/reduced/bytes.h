// bytes.h - sums of products of bytes, and how they become floats and bytes again.
//
// With VNNI one instruction multiplies 4 neighboring bytes of each lane and adds them to its sum. AVX2 alone
// multiplies words of 16 bits (its product of bytes, VPMADDUBSW, saturates where two of 255 * 127 meet): bytes
// are spread to words in registers, even ones and odd ones, and the sums are the same to the bit.
#pragma once
#include "words.h"

namespace igc {
namespace IGC_TARGET {

constexpr Element kElement = Element::Byte;
typedef Words Sums;
typedef __m128i Elements;

IGC_INLINE Elements elements_at(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }
IGC_INLINE Elements elements_8_8(const uint8_t* low, const uint8_t* high) {
  return _mm_unpacklo_epi64(_mm_loadl_epi64((const __m128i*)low), _mm_loadl_epi64((const __m128i*)high));
}
IGC_INLINE Elements elements_4(const uint8_t* p0, const uint8_t* p1, const uint8_t* p2, const uint8_t* p3) {
  return _mm_setr_epi32((int)word_at(p0), (int)word_at(p1), (int)word_at(p2), (int)word_at(p3));
}
IGC_INLINE void put_elements(uint8_t* p, Elements v) { _mm_storeu_si128((__m128i*)p, v); }
IGC_INLINE void put_low8(uint8_t* p, Elements v) { _mm_storel_epi64((__m128i*)p, v); }
IGC_INLINE void put_high8(uint8_t* p, Elements v) { _mm_storel_epi64((__m128i*)p, _mm_unpackhi_epi64(v, v)); }
template <int I>
IGC_INLINE void put_quarter(uint8_t* p, Elements v) {
  *(word_anywhere*)p = (uint32_t)_mm_cvtsi128_si32(_mm_srli_si128(v, 4 * I));
}

// Between the lanes of a vector, (16 / w) outputs m' of w groups, and words, w of four members for every four m': its
// own inverse for w = 4.
template <int W>
IGC_INLINE __m128i words_shuffle() {
  if constexpr (W == 4)
    return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  else if constexpr (W == 2)
    return _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  else
    return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
template <int W>
IGC_INLINE Elements lanes_to_words(Elements v) {
  return _mm_shuffle_epi8(v, words_shuffle<W>());
}
template <int W>
IGC_INLINE Elements words_to_lanes(Elements v) {
  if constexpr (W == 2)
    return _mm_shuffle_epi8(v, _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
  else
    return lanes_to_words<W>(v);
}

#if IGC_LANES == 16

IGC_INLINE Sums zero_sums() { return _mm512_setzero_si512(); }
IGC_INLINE Sums pair_sum(Sums a, Sums b) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
}
IGC_INLINE vec to_floats(Sums v) { return _mm512_cvtepi32_ps(v); }
IGC_INLINE vec to_floats(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }
IGC_INLINE Sums rounded(vec v) { return _mm512_cvtps_epi32(v); }  // halves to even
// Clipped to 0..255.
IGC_INLINE __m128i to_bytes(vec v) {
  return _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_setzero_si512(), rounded(v)));
}
// The same for four vectors, which come out as the four quarters of one register: 4 shuffles, where one by one
// it takes 8.
IGC_INLINE Sums to_bytes(vec a, vec b, vec c, vec d) {
  const Sums low = _mm512_packs_epi32(rounded(a), rounded(b)),
             high = _mm512_packs_epi32(rounded(c), rounded(d));
  const Sums order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
}
// Calls put(i, elements) for each of N vectors, their elements in the order of words of W groups where `words` says so.
template <int W, int N, class Put>
IGC_INLINE void each_as_elements(const vec (&v)[N], bool words, Put put) {
  const __m128i shuffle = words_shuffle<W>();
  IGC_TIMES (g, N / 4) {
    Sums four = to_bytes(v[4 * g], v[4 * g + 1], v[4 * g + 2], v[4 * g + 3]);
    if (words) four = _mm512_shuffle_epi8(four, _mm512_broadcast_i32x4(shuffle));
    put(4 * g, _mm512_castsi512_si128(four));
    put(4 * g + 1, _mm512_extracti32x4_epi32(four, 1));
    put(4 * g + 2, _mm512_extracti32x4_epi32(four, 2));
    put(4 * g + 3, _mm512_extracti32x4_epi32(four, 3));
  }
  IGC_TIMES (i, N % 4) {
    __m128i one = to_bytes(v[N / 4 * 4 + i]);
    if (words) one = _mm_shuffle_epi8(one, shuffle);
    put(N / 4 * 4 + i, one);
  }
}

#else

IGC_INLINE Sums zero_sums() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
IGC_INLINE __m256i pair_sum8(__m256i a, __m256i b) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
}
IGC_INLINE Sums pair_sum(Sums a, Sums b) { return {pair_sum8(a.a, a.b), pair_sum8(b.a, b.b)}; }
IGC_INLINE vec to_floats(Sums v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
IGC_INLINE vec to_floats(__m128i bytes) {
  return to_floats(Sums{_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))});
}
IGC_INLINE Sums rounded(vec v) { return {_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }
// Of two vectors, the second in the upper half.
IGC_INLINE __m256i to_bytes(vec v, vec w) {
  const Sums x = rounded(v), y = rounded(w);
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(x.a, x.b), _mm256_packs_epi32(y.a, y.b));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
IGC_INLINE __m128i to_bytes(vec v) { return _mm256_castsi256_si128(to_bytes(v, v)); }
template <int W, int N, class Put>
IGC_INLINE void each_as_elements(const vec (&v)[N], bool words, Put put) {
  const __m128i shuffle = words_shuffle<W>();
  IGC_TIMES (g, N / 2) {
    __m256i two = to_bytes(v[2 * g], v[2 * g + 1]);
    if (words) two = _mm256_shuffle_epi8(two, _mm256_broadcastsi128_si256(shuffle));
    put(2 * g, _mm256_castsi256_si128(two));
    put(2 * g + 1, _mm256_extracti128_si256(two, 1));
  }
  if constexpr (N % 2) {
    __m128i one = to_bytes(v[N - 1]);
    if (words) one = _mm_shuffle_epi8(one, shuffle);
    put(N - 1, one);
  }
}

#endif

IGC_INLINE Sums quad_sum(Sums a, Sums b, Sums c, Sums d) { return pair_sum(pair_sum(a, b), pair_sum(c, d)); }

// Inputs and weights as add_products wants them, and kParts: how many times the registers of bytes they take.
// add_products adds to each of 16 lanes the sum of four products, of unsigned bytes x and signed bytes w. GCC 12
// puts register moves around its own intrinsics.
#if IGC_LANES == 16
constexpr int kParts = 1;
typedef Sums Inputs;
typedef Sums Weights;
IGC_INLINE Weights weights_at(const uint8_t* p) { return _mm512_loadu_si512(p); }
IGC_INLINE Inputs as_inputs(Sums bytes) { return bytes; }
IGC_INLINE void add_products(Sums& sum, const Inputs& x, const Weights& w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}
#elif defined(__AVXVNNI__)
constexpr int kParts = 1;
typedef Sums Inputs;
typedef Sums Weights;
IGC_INLINE Weights weights_at(const uint8_t* p) { return {half_at(p), half_at(p + 32)}; }
IGC_INLINE Inputs as_inputs(Sums bytes) { return bytes; }
IGC_INLINE void add_products(Sums& sum, const Inputs& x, const Weights& w) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.a) : "x"(x.a), "x"(w.a));
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.b) : "x"(x.b), "x"(w.b));
}
#else
constexpr int kParts = 2;
struct Inputs {
  Sums even, odd;
};
typedef Inputs Weights;
IGC_INLINE __m256i even_signed(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
IGC_INLINE __m256i odd_signed(__m256i v) { return _mm256_srai_epi16(v, 8); }
IGC_INLINE Weights weights_at(const uint8_t* p) {
  const __m256i a = half_at(p), b = half_at(p + 32);
  return {{even_signed(a), even_signed(b)}, {odd_signed(a), odd_signed(b)}};
}
IGC_INLINE Inputs as_inputs(Sums v) {
  const __m256i even = _mm256_set1_epi16(255);
  return {{_mm256_and_si256(v.a, even), _mm256_and_si256(v.b, even)},
          {_mm256_srli_epi16(v.a, 8), _mm256_srli_epi16(v.b, 8)}};
}
IGC_INLINE void add_half(__m256i& sum, __m256i x, __m256i w) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}
IGC_INLINE void add_products(Sums& sum, const Inputs& x, const Weights& w) {
  add_half(sum.a, x.even.a, w.even.a);
  add_half(sum.b, x.even.b, w.even.b);
  add_half(sum.a, x.odd.a, w.odd.a);
  add_half(sum.b, x.odd.b, w.odd.b);
}
#endif

// To the unit of bytes and back.
IGC_INLINE vec in_unit(vec v, const ConvertTask& t) {
  return min(splat(255), fma(v, splat(t.scale), splat(t.shift)));  // infinity is 255, too
}
IGC_INLINE vec from_unit(Elements v, const ConvertTask& t) {
  return fma(to_floats(v), splat(t.scale), splat(t.shift));
}
// [4 members][lanes] -> [lanes][4 members]. Of absent members anything finite will do, and bytes are.
template <int LANES>
IGC_INLINE void transpose(const uint8_t* x, uint8_t* y, int) {
  [[maybe_unused]] const __m128i in_lane = words_shuffle<4>();
  if constexpr (LANES == 16) {
    const __m128i m0 = elements_at(x), m1 = elements_at(x + 16), m2 = elements_at(x + 32),
                  m3 = elements_at(x + 48);
    const __m128i low01 = _mm_unpacklo_epi8(m0, m1), high01 = _mm_unpackhi_epi8(m0, m1);
    const __m128i low23 = _mm_unpacklo_epi8(m2, m3), high23 = _mm_unpackhi_epi8(m2, m3);
    put_elements(y, _mm_unpacklo_epi16(low01, low23));
    put_elements(y + 16, _mm_unpackhi_epi16(low01, low23));
    put_elements(y + 32, _mm_unpacklo_epi16(high01, high23));
    put_elements(y + 48, _mm_unpackhi_epi16(high01, high23));
  } else if constexpr (LANES == 8) {
    const __m256i words = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i v = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)x), words);
    _mm256_storeu_si256((__m256i*)y, _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(in_lane)));
  } else if constexpr (LANES == 4) {
    put_elements(y, _mm_shuffle_epi8(elements_at(x), in_lane));
  } else if constexpr (LANES == 2) {
    _mm_storel_epi64((__m128i*)y, lanes_to_words<2>(_mm_loadl_epi64((const __m128i*)x)));
  } else {
    *(word_anywhere*)y = word_at(x);
  }
}

IGC_INLINE vec fused(vec a, vec b, vec c) { return fma(a, b, c); }
IGC_INLINE vec finished(Sums sum, const float* scale, const float* bias) {
  return fma(to_floats(sum), load(scale), load(bias));
}
IGC_INLINE vec with_residual(vec v, Elements residual, float scale) {
  return fma(to_floats(residual), splat(scale), v);
}
// Bytes are clipped as they are made.
IGC_INLINE vec clipped(vec v, const Epilogue& epilogue) {
  return epilogue.floats ? min(splat(epilogue.highest), max(splat(epilogue.lowest), v)) : v;
}

}  // namespace IGC_TARGET
}  // namespace igc
