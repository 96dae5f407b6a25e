// simd.h - sums of products of bytes, and how they become floats and bytes again: AVX-512 with VNNI.
#pragma once
#include "../int8.h"
#include "../simd.h"

namespace igc {
namespace IGC_TARGET {

#define IGC_ALWAYS __attribute__((always_inline))

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
IGC_INLINE ints rounded(vec v) { return _mm512_cvtps_epi32(v); }  // halves to even
// Clipped to 0..255.
IGC_INLINE __m128i to_bytes(vec v) {
  return _mm512_cvtusepi32_epi8(_mm512_max_epi32(_mm512_setzero_si512(), rounded(v)));
}
// The same for four vectors, which come out as the four quarters of one register: 4 shuffles, where one by one
// it takes 8.
IGC_INLINE ints to_bytes(vec a, vec b, vec c, vec d) {
  const ints low = _mm512_packs_epi32(rounded(a), rounded(b)), high = _mm512_packs_epi32(rounded(c), rounded(d));
  const ints order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packus_epi16(low, high));
}
// Calls put(i, bytes) for each of N vectors; `shuffle` goes over the 16 bytes of each.
template <int N, class Put>
IGC_INLINE void each_as_bytes(const vec (&v)[N], ints shuffle, bool shuffled, Put put) {
  IGC_TIMES (g, N / 4) {
    ints four = to_bytes(v[4 * g], v[4 * g + 1], v[4 * g + 2], v[4 * g + 3]);
    if (shuffled) four = _mm512_shuffle_epi8(four, shuffle);
    put(4 * g, _mm512_castsi512_si128(four));
    put(4 * g + 1, _mm512_extracti32x4_epi32(four, 1));
    put(4 * g + 2, _mm512_extracti32x4_epi32(four, 2));
    put(4 * g + 3, _mm512_extracti32x4_epi32(four, 3));
  }
  IGC_TIMES (i, N % 4) {
    __m128i one = to_bytes(v[N / 4 * 4 + i]);
    if (shuffled) one = _mm_shuffle_epi8(one, _mm512_castsi512_si128(shuffle));
    put(N / 4 * 4 + i, one);
  }
}

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
