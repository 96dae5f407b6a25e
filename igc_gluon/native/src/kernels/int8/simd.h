// simd.h - sums of products of bytes, and how they become floats and bytes again: AVX-512 with VNNI.
#pragma once
#include "../int8.h"
#include "../simd.h"

namespace igc {
namespace IGC_TARGET {

typedef __m512i ints;

// For each of 16 lanes the sum of four products, of unsigned bytes x and signed bytes w. GCC 12 puts register
// moves around its own intrinsic.
IGC_INLINE void add_products(ints& sum, ints x, ints w) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
}
IGC_INLINE ints load_ints(const void* p) { return _mm512_loadu_si512(p); }

// W consecutive words, repeated 16 / W times.
template <int W>
IGC_INLINE ints broadcast_words(const uint8_t* p) {
  if constexpr (W == 16)
    return _mm512_loadu_si512(p);
  else if constexpr (W == 8)
    return _mm512_broadcast_i32x8(_mm256_loadu_si256((const __m256i*)p));
  else if constexpr (W == 4)
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p));
  else if constexpr (W == 2)
    return _mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p));
  else
    return _mm512_broadcastd_epi32(_mm_loadu_si32(p));
}

IGC_INLINE ints pair_sum(ints a, ints b) {
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512i odd = _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1);
  return _mm512_add_epi32(_mm512_permutex2var_epi32(a, even, b), _mm512_permutex2var_epi32(a, odd, b));
}
IGC_INLINE ints quad_sum(ints a, ints b, ints c, ints d) { return pair_sum(pair_sum(a, b), pair_sum(c, d)); }

IGC_INLINE vec to_floats(ints v) { return _mm512_cvtepi32_ps(v); }
IGC_INLINE vec to_floats(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)); }
// Rounded to even; what is not below 0 comes out as at most 255.
IGC_INLINE __m128i to_bytes(vec v) { return _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(v)); }

// Between the lanes of a vector, (16 / w) outputs m' of w groups, and quads, w words of four members for every
// four m': its own inverse for w = 4.
template <int W>
IGC_INLINE __m128i lanes_to_quads(__m128i v) {
  if constexpr (W == 4)
    return _mm_shuffle_epi8(v, _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  else if constexpr (W == 2)
    return _mm_shuffle_epi8(v, _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15));
  else
    return v;
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
