// words.h - words of 32 bits in 16 lanes, and the two kinds of elements that they hold.
//
// A kernel source here is compiled for bytes (-DIGC_BYTES) and for bfloat16, each once per instruction set. What it needs
// of an element:
//   kElement, kParts           which it is; the registers that a vector of its words takes, in vectors
//   Sums                       of products, in 16 lanes; zero_sums, pair_sum
//   add_products               to each lane the sum of the products of two words
//   finished                   sums to floats in the unit of what is written, with bias
//   Elements                   16 of them: elements_at, put_elements, to_floats, and parts of them
//   with_residual              adds elements to floats
//   each_as_elements           rounds vectors of floats
#pragma once
#include "../reduced_kernels.h"
#include "../simd.h"

#ifdef IGC_EMULATED  // for tests: the compiler's time counts, not the speed
#undef IGC_TIMES
#define IGC_TIMES(i, n) for (int i = 0; i < (n); i++)
#endif

namespace igc {
namespace IGC_TARGET {

#define IGC_ALWAYS __attribute__((always_inline))

// Four bytes anywhere. (_mm_loadu_si32 came with GCC 11.)
typedef uint32_t word_anywhere __attribute__((may_alias, aligned(1)));
IGC_INLINE uint32_t word_at(const uint8_t* p) { return *(const word_anywhere*)p; }

#if IGC_LANES == 16

typedef __m512i Words;

// W consecutive words, repeated 16 / W times.
template <int W>
IGC_INLINE Words broadcast_words(const uint8_t* p) {
  if constexpr (W == 16)
    return _mm512_loadu_si512(p);
  else if constexpr (W == 8)
    return _mm512_broadcast_i32x8(_mm256_loadu_si256((const __m256i*)p));
  else if constexpr (W == 4)
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i*)p));
  else if constexpr (W == 2)
    return _mm512_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p));
  else
    return _mm512_set1_epi32((int)word_at(p));
}

#elif IGC_LANES == 8

struct Words {
  __m256i a, b;
};

IGC_INLINE __m256i half_at(const void* p) { return _mm256_loadu_si256((const __m256i*)p); }
template <int W>
IGC_INLINE Words broadcast_words(const uint8_t* p) {
  if constexpr (W == 16) return {half_at(p), half_at(p + 32)};
  __m256i v;
  if constexpr (W == 8)
    v = half_at(p);
  else if constexpr (W == 4)
    v = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i*)p));
  else if constexpr (W == 2)
    v = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i*)p));
  else
    v = _mm256_set1_epi32((int)word_at(p));
  return {v, v};
}

#else

struct Words {
  uint32_t at[16];
};
// Of an emulation: called, as its speed does not matter.
#define IGC_CALLED inline __attribute__((noinline))

template <int W>
IGC_CALLED Words broadcast_words(const uint8_t* p) {
  Words words;
  for (int i = 0; i < 16; i++) words.at[i] = word_at(p + i % W * 4);
  return words;
}

#endif

}  // namespace IGC_TARGET
}  // namespace igc

#if defined(IGC_BYTES) && defined(IGC_EMULATED)
#include "emulated_bytes.h"
#elif defined(IGC_BYTES)
#include "bytes.h"
#else
#include "bfloat16.h"
#endif

namespace igc {
namespace IGC_TARGET {

constexpr int kBytes = bytes_of(kElement);

// Register tiles are those for floats (../simd.h): as many vectors of outputs at a time. An emulation has those of what
// it emulates.
constexpr bool kWide = IGC_LANES != 8;
constexpr int kReducedVectors = kWide ? 2 : 1, kReducedUnits = kWide ? 3 : 1;
constexpr bool reduced_tile_fits(int p, int q, int more) {
  return kWide ? p * q + more <= 32 : tile_fits(p, q, more);
}

}  // namespace IGC_TARGET
}  // namespace igc
