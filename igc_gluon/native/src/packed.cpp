// packed.cpp - packed weights of training: planned with the numbers of the weights, filled anew every step.
#include <algorithm>

#include "train.h"

namespace igc {

std::vector<float> numbers(size_t count, size_t first) {
  std::vector<float> result(count);
  for (size_t i = 0; i < count; i++) result[i] = (float)(first + i);
  return result;
}

std::vector<float> turned(const std::vector<float>& w, int outputs, int inputs, int groups, int kernel,
                          const std::vector<int>& rows, const std::vector<int>& columns) {
  const int per_in = inputs / groups, per_out = outputs / groups;
  std::vector<float> result;
  result.reserve((size_t)inputs * per_out * rows.size() * columns.size());
  for (int i = 0; i < inputs; i++)
    for (int o = 0; o < per_out; o++)
      for (int dy : rows)
        for (int dx : columns)
          result.push_back(
              w[(((size_t)(i / per_in * per_out + o) * per_in + i % per_in) * kernel + dy) * kernel + dx]);
  return result;
}

void Packed::learn() {
  for (size_t i = 0; i < arena.arrays(); i++) {
    float* at = arena.array(i);
    const size_t size = arena.size(i);
    if (std::all_of(at, at + size, [](float v) { return v == 0; })) continue;  // biases
    pieces_.push_back({at, source_.size(), size});
    for (size_t k = 0; k < size; k++) {
      source_.push_back((int32_t)at[k] - 1);
      at[k] = 0;
    }
  }
}

void Packed::pack(const float* first, size_t count, const float* second) {
  for (const Piece& piece : pieces_)
    for (size_t k = 0; k < piece.size; k++) {
      const int32_t n = source_[piece.begin + k];
      if (n >= 0) piece.at[k] = (size_t)n < count ? first[n] : second[n - count];
    }
}

size_t Packed::offset_of(const float* at) const {
  for (const Piece& piece : pieces_)
    if (piece.at == at) return piece.begin;
  return (size_t)-1;  // an array of zeros has no gradient
}

}  // namespace igc
