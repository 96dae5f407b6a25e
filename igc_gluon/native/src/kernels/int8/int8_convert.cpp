// int8_convert.cpp - between floats, bytes and quads of bytes. Bound by loads and stores: no register tile.
#include "int8_simd.h"

namespace igc {
namespace IGC_TARGET {

void quantise(const RescaleTask& t) {
  const vec scale = splat(t.scale), shift = splat(t.shift);
  const uint8_t* x = (const uint8_t*)t.x;
  uint8_t* y = (uint8_t*)t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.positions; i += 16) {
      const vec v = min(splat(255), fma(load((const float*)x + i), scale, shift));  // infinity is 255, too
      put_bytes(y + i, to_bytes(v));
    }
}

void dequantise(const RescaleTask& t) {
  const vec scale = splat(t.scale), shift = splat(t.shift);
  const uint8_t* x = (const uint8_t*)t.x;
  uint8_t* y = (uint8_t*)t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.positions; i += 16)
      store((float*)y + i, fma(to_floats(bytes_at(x + i)), scale, shift));
}

// [4 members][lanes] -> [lanes][4 members].
template <int LANES>
IGC_INLINE void transpose(const uint8_t* x, uint8_t* y) {
  [[maybe_unused]] const __m128i in_lane = quads_shuffle<4>();
  if constexpr (LANES == 16) {
    const __m128i m0 = bytes_at(x), m1 = bytes_at(x + 16), m2 = bytes_at(x + 32), m3 = bytes_at(x + 48);
    const __m128i low01 = _mm_unpacklo_epi8(m0, m1), high01 = _mm_unpackhi_epi8(m0, m1);
    const __m128i low23 = _mm_unpacklo_epi8(m2, m3), high23 = _mm_unpackhi_epi8(m2, m3);
    put_bytes(y, _mm_unpacklo_epi16(low01, low23));
    put_bytes(y + 16, _mm_unpackhi_epi16(low01, low23));
    put_bytes(y + 32, _mm_unpacklo_epi16(high01, high23));
    put_bytes(y + 48, _mm_unpackhi_epi16(high01, high23));
  } else if constexpr (LANES == 8) {
    const __m256i words = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i v = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i*)x), words);
    _mm256_storeu_si256((__m256i*)y, _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(in_lane)));
  } else if constexpr (LANES == 4) {
    put_bytes(y, _mm_shuffle_epi8(bytes_at(x), in_lane));
  } else if constexpr (LANES == 2) {
    _mm_storel_epi64((__m128i*)y, lanes_to_quads<2>(_mm_loadl_epi64((const __m128i*)x)));
  } else {
    *(word_anywhere*)y = word_at(x);
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
