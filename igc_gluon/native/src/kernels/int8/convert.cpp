// convert.cpp - between floats, bytes and quads of bytes. Bound by loads and stores: no register tile.
#include "simd.h"

namespace igc {
namespace IGC_TARGET {

void quantise(const RescaleTask& t) {
  const vec scale = splat(t.scale), shift = splat(t.shift);
  const uint8_t* x = (const uint8_t*)t.x;
  uint8_t* y = (uint8_t*)t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.positions; i += 16) {
      const vec v = min(splat(255), fma(load((const float*)x + i), scale, shift));  // infinity is 255, too
      _mm_storeu_si128((__m128i*)(y + i), to_bytes(v));
    }
}

void dequantise(const RescaleTask& t) {
  const vec scale = splat(t.scale), shift = splat(t.shift);
  const uint8_t* x = (const uint8_t*)t.x;
  uint8_t* y = (uint8_t*)t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.positions; i += 16)
      store((float*)y + i, fma(to_floats(_mm_loadu_si128((const __m128i*)(x + i))), scale, shift));
}

// [4 members][lanes] -> [lanes][4 members]: first words to the 128-bit lane that they end in, then bytes.
template <int LANES>
IGC_INLINE void transpose(const uint8_t* x, uint8_t* y) {
  const __m128i in_lane = quads_shuffle<4>();
  if constexpr (LANES == 16) {
    const ints words = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const ints v = _mm512_permutexvar_epi32(words, _mm512_loadu_si512(x));
    _mm512_storeu_si512(y, _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(in_lane)));
  } else if constexpr (LANES == 8) {
    const __m256i words = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i v = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)x), words);
    _mm256_storeu_si256((__m256i*)y, _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(in_lane)));
  } else if constexpr (LANES == 4) {
    _mm_storeu_si128((__m128i*)y, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)x), in_lane));
  } else if constexpr (LANES == 2) {
    _mm_storel_epi64((__m128i*)y, lanes_to_quads<2>(_mm_loadl_epi64((const __m128i*)x)));
  } else {
    _mm_storeu_si32(y, _mm_loadu_si32(x));
  }
}

template <int LANES>
void make_quads_of(const QuadTask& t) {
  const uint8_t* x = t.x;
  uint8_t* y = t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel) {
    transpose<LANES>(x, y);
    for (int i = 1; i < t.quads; i++) transpose<LANES>(x + i * 4 * LANES, y + i * 4 * LANES);
  }
}

void make_quads(const QuadTask& t) {
  switch (t.lanes) {
    case 16:
      return make_quads_of<16>(t);
    case 8:
      return make_quads_of<8>(t);
    case 4:
      return make_quads_of<4>(t);
    case 2:
      return make_quads_of<2>(t);
    default:
      return make_quads_of<1>(t);
  }
}

}  // namespace IGC_TARGET
}  // namespace igc
