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
void make_quads(const QuadTask& t) {
  const __m512i in_lane =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  const __m512i of_16 = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i of_8 = _mm512_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  const uint8_t* x = t.x;
  uint8_t* y = t.y;
  const int bytes = 4 * t.lanes;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.quads * bytes; i += bytes) {
      if (t.lanes == 16) {
        const __m512i v = _mm512_permutexvar_epi32(of_16, _mm512_loadu_si512(x + i));
        _mm512_storeu_si512(y + i, _mm512_shuffle_epi8(v, in_lane));
      } else if (t.lanes == 8) {
        const __m512i v = _mm512_castsi256_si512(_mm256_loadu_si256((const __m256i*)(x + i)));
        const __m512i quads = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(of_8, v), in_lane);
        _mm256_storeu_si256((__m256i*)(y + i), _mm512_castsi512_si256(quads));
      } else if (t.lanes == 4) {
        const __m128i v = _mm_loadu_si128((const __m128i*)(x + i));
        _mm_storeu_si128((__m128i*)(y + i), lanes_to_quads<4>(v));
      } else if (t.lanes == 2) {
        _mm_storel_epi64((__m128i*)(y + i), lanes_to_quads<2>(_mm_loadl_epi64((const __m128i*)(x + i))));
      } else {
        _mm_storeu_si32(y + i, _mm_loadu_si32(x + i));
      }
    }
}

}  // namespace IGC_TARGET
}  // namespace igc
