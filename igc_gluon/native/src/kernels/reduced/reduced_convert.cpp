// reduced_convert.cpp - between floats and elements, and to words of elements. Bound by loads and stores: no register
// tile.
#include "words.h"

namespace igc {
namespace IGC_TARGET {

void reduce(const ConvertTask& t) {
  const uint8_t* x = (const uint8_t*)t.x;
  uint8_t* y = (uint8_t*)t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.positions; i += 16) {
      const vec v[1] = {in_unit(load((const float*)x + i), t)};
      each_as_elements<16>(v, false, [&](int, const Elements& elements) IGC_ALWAYS {
        put_elements(y + i * kBytes, elements);
      });
    }
}

void widen(const ConvertTask& t) {
  const uint8_t* x = (const uint8_t*)t.x;
  uint8_t* y = (uint8_t*)t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel)
    for (int i = 0; i < t.positions; i += 16) store((float*)y + i, from_unit(elements_at(x + i * kBytes), t));
}

template <int LANES>
void make_words_of(const WordsTask& t) {
  constexpr int kRun = per_word(kElement);  // members of a word
  const uint8_t* x = t.x;
  uint8_t* y = t.y;
  for (int p = 0; p < t.pixels; p++, x += t.x_pixel, y += t.y_pixel) {
    transpose<LANES>(x, y, t.members);
    for (int m = kRun; m < t.members; m += kRun)
      transpose<LANES>(x + m * LANES * kBytes, y + m * LANES * kBytes, t.members - m);
  }
}

void make_words(const WordsTask& t) {
  switch (t.lanes) {
    case 16:
      return make_words_of<16>(t);
    case 8:
      return make_words_of<8>(t);
    case 4:
      return make_words_of<4>(t);
    case 2:
      return make_words_of<2>(t);
    default:
      return make_words_of<1>(t);
  }
}

}  // namespace IGC_TARGET
}  // namespace igc
