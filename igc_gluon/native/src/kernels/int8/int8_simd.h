// int8_simd.h - sums of products of bytes, and how they become floats and bytes again.
//
// With VNNI one instruction multiplies 4 neighbouring bytes of each lane and adds them to its sum. AVX2 alone
// multiplies words of 16 bits (its product of bytes, VPMADDUBSW, saturates where two of 255 * 127 meet): bytes
// are spread to words in registers, even ones and odd ones, and the sums are the same to the bit.
#pragma once
#include "../int8_kernels.h"
#include "../simd.h"

namespace igc {
namespace IGC_TARGET {

#define IGC_ALWAYS __attribute__((always_inline))

// Four bytes anywhere. (_mm_loadu_si32 came with GCC 11.)
typedef int32_t word_anywhere __attribute__((may_alias, aligned(1)));
IGC_INLINE int32_t word_at(const uint8_t* p) { return *(const word_anywhere*)p; }
IGC_INLINE void put_word(uint8_t* p, __m128i v) { *(word_anywhere*)p = _mm_cvtsi128_si32(v); }
IGC_INLINE void put_bytes(uint8_t* p, __m128i v) { _mm_storeu_si128((__m128i*)p, v); }
IGC_INLINE __m128i bytes_at(const uint8_t* p) { return _mm_loadu_si128((const __m128i*)p); }

#if IGC_LANES == 16

typedef __m512i ints;

IGC_INLINE ints zero_ints() { return _mm512_setzero_si512(); }
// W consecutive words, repeated 16 / W times.
template <int W>
IGC_INLINE ints broadcast_words(const uint8_t* p) {
  if constexpr (W == 16)
    return _mm512_loadu_si512(p);
  else if constexpr (W == 8)
    return _mm512_broadcast_i32x8(_mm256_loadu_si256((const __m256i*)p));
  else if constexpr (W == 4)
    return _mm512_broadcast_i32x4(bytes_at(p));
  else if constexpr (W == 2)
    return _mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p));
  else
    return _mm512_set1_epi32(word_at(p));
}
IGC_INLINE ints pair_sum(ints a, ints b) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
}
IGC_INLINE vec to_floats(ints v) { return _mm512_cvtepi32_ps(v); }
IGC_INLINE vec to_floats(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }
IGC_INLINE ints rounded(vec v) { return _mm512_cvtps_epi32(v); }  // halves to even
// Clipped to 0..255.
IGC_INLINE __m128i to_bytes(vec v) {
  return _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_setzero_si512(), rounded(v)));
}
// The same for four vectors, which come out as the four quarters of one register: 4 shuffles, where one by one
// it takes 8.
IGC_INLINE ints to_bytes(vec a, vec b, vec c, vec d) {
  const ints low = _mm512_packs_epi32(rounded(a), rounded(b)),
             high = _mm512_packs_epi32(rounded(c), rounded(d));
  const ints order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
}
// Calls put(i, bytes) for each of N vectors; `shuffle` goes over the 16 bytes of each.
template <int N, class Put>
IGC_INLINE void each_as_bytes(const vec (&v)[N], __m128i shuffle, bool shuffled, Put put) {
  IGC_TIMES (g, N / 4) {
    ints four = to_bytes(v[4 * g], v[4 * g + 1], v[4 * g + 2], v[4 * g + 3]);
    if (shuffled) four = _mm512_shuffle_epi8(four, _mm512_broadcast_i32x4(shuffle));
    put(4 * g, _mm512_castsi512_si128(four));
    put(4 * g + 1, _mm512_extracti32x4_epi32(four, 1));
    put(4 * g + 2, _mm512_extracti32x4_epi32(four, 2));
    put(4 * g + 3, _mm512_extracti32x4_epi32(four, 3));
  }
  IGC_TIMES (i, N % 4) {
    __m128i one = to_bytes(v[N / 4 * 4 + i]);
    if (shuffled) one = _mm_shuffle_epi8(one, shuffle);
    put(N / 4 * 4 + i, one);
  }
}

#else

struct ints {
  __m256i a, b;
};

IGC_INLINE ints zero_ints() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
IGC_INLINE __m256i half_at(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
template <int W>
IGC_INLINE ints broadcast_words(const uint8_t* p) {
  if constexpr (W == 16) return {half_at(p), half_at(p + 32)};
  __m256i v;
  if constexpr (W == 8)
    v = half_at(p);
  else if constexpr (W == 4)
    v = _mm256_broadcastsi128_si256(bytes_at(p));
  else if constexpr (W == 2)
    v = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p));
  else
    v = _mm256_set1_epi32(word_at(p));
  return {v, v};
}
IGC_INLINE __m256i pair_sum8(__m256i a, __m256i b) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xD8);
}
IGC_INLINE ints pair_sum(ints a, ints b) { return {pair_sum8(a.a, a.b), pair_sum8(b.a, b.b)}; }
IGC_INLINE vec to_floats(ints v) { return {_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)}; }
IGC_INLINE vec to_floats(__m128i bytes) {
  return to_floats(ints{_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))});
}
IGC_INLINE ints rounded(vec v) { return {_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)}; }
// Of two vectors, the second in the upper half.
IGC_INLINE __m256i to_bytes(vec v, vec w) {
  const ints x = rounded(v), y = rounded(w);
  const __m256i bytes = _mm256_packus_epi16(_mm256_packs_epi32(x.a, x.b), _mm256_packs_epi32(y.a, y.b));
  return _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
IGC_INLINE __m128i to_bytes(vec v) { return _mm256_castsi256_si128(to_bytes(v, v)); }
template <int N, class Put>
IGC_INLINE void each_as_bytes(const vec (&v)[N], __m128i shuffle, bool shuffled, Put put) {
  IGC_TIMES (g, N / 2) {
    __m256i two = to_bytes(v[2 * g], v[2 * g + 1]);
    if (shuffled) two = _mm256_shuffle_epi8(two, _mm256_broadcastsi128_si256(shuffle));
    put(2 * g, _mm256_castsi256_si128(two));
    put(2 * g + 1, _mm256_extracti128_si256(two, 1));
  }
  if constexpr (N % 2) {
    __m128i one = to_bytes(v[N - 1]);
    if (shuffled) one = _mm_shuffle_epi8(one, shuffle);
    put(N - 1, one);
  }
}

#endif

IGC_INLINE ints quad_sum(ints a, ints b, ints c, ints d) { return pair_sum(pair_sum(a, b), pair_sum(c, d)); }

// Inputs and weights as add_products wants them, and kParts: how many times the registers of bytes they take.
// add_products adds to each of 16 lanes the sum of four products, of unsigned bytes x and signed bytes w. GCC 12
// puts register moves around its own intrinsics.
#if IGC_LANES == 16
constexpr int kParts = 1;
typedef ints Inputs;
typedef ints Weights;
IGC_INLINE Weights weights_at(const int8_t* p) { return _mm512_loadu_si512(p); }
IGC_INLINE Inputs as_inputs(ints bytes) { return bytes; }
IGC_INLINE void add_products(ints& sum, const Inputs& x, const Weights& w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}
#elif defined(__AVXVNNI__)
constexpr int kParts = 1;
typedef ints Inputs;
typedef ints Weights;
IGC_INLINE Weights weights_at(const int8_t* p) { return {half_at(p), half_at(p + 32)}; }
IGC_INLINE Inputs as_inputs(ints bytes) { return bytes; }
IGC_INLINE void add_products(ints& sum, const Inputs& x, const Weights& w) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.a) : "x"(x.a), "x"(w.a));
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.b) : "x"(x.b), "x"(w.b));
}
#else
constexpr int kParts = 2;
struct Inputs {
  ints even, odd;
};
typedef Inputs Weights;
IGC_INLINE __m256i even_signed(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8); }
IGC_INLINE __m256i odd_signed(__m256i v) { return _mm256_srai_epi16(v, 8); }
IGC_INLINE Weights weights_at(const int8_t* p) {
  const __m256i a = half_at(p), b = half_at(p + 32);
  return {{even_signed(a), even_signed(b)}, {odd_signed(a), odd_signed(b)}};
}
IGC_INLINE Inputs as_inputs(ints v) {
  const __m256i even = _mm256_set1_epi16(255);
  return {{_mm256_and_si256(v.a, even), _mm256_and_si256(v.b, even)},
          {_mm256_srli_epi16(v.a, 8), _mm256_srli_epi16(v.b, 8)}};
}
IGC_INLINE void add_half(__m256i& sum, __m256i x, __m256i w) {
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(x, w));
}
IGC_INLINE void add_products(ints& sum, const Inputs& x, const Weights& w) {
  add_half(sum.a, x.even.a, w.even.a);
  add_half(sum.b, x.even.b, w.even.b);
  add_half(sum.a, x.odd.a, w.odd.a);
  add_half(sum.b, x.odd.b, w.odd.b);
}
#endif

// Register tiles are those for floats (../simd.h): as many vectors of outputs at a time.
constexpr int kInt8Vectors = IGC_LANES == 16 ? 2 : 1, kInt8Units = IGC_LANES == 16 ? 3 : 1;

// Between the lanes of a vector, (16 / w) outputs m' of w groups, and quads, w words of four members for every
// four m': its own inverse for w = 4.
template <int W>
IGC_INLINE __m128i quads_shuffle() {
  if constexpr (W == 4)
    return _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  else if constexpr (W == 2)
    return _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  else
    return _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
template <int W>
IGC_INLINE __m128i lanes_to_quads(__m128i v) {
  return _mm_shuffle_epi8(v, quads_shuffle<W>());
}
template <int W>
IGC_INLINE __m128i quads_to_lanes(__m128i v) {
  if constexpr (W == 2)
    return _mm_shuffle_epi8(v, _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15));
  else
    return lanes_to_quads<W>(v);
}

}  // namespace IGC_TARGET
}  // namespace igc
