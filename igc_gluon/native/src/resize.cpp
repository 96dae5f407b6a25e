// A resized row or column is a weighted sum of a few old ones: the weights of each axis are found first (Taps), then
// applied to columns and rows. What differs between the methods is the weights and how sums are rounded; both follow
// OpenCV 4 (modules/imgproc/src/resize.cpp), so that the same photograph gives the same pixels. Only its cubic sums are
// of several kinds (floats where Intel's primitives are built in, else fixed point): of few pixels one level is another.
#include "resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace igc {
namespace {

constexpr int kChannels = 3;
constexpr int kBits = 11;  // of the fraction of a weight in fixed point

struct Taps {  // of one position of an axis
  std::vector<int> at;
  std::vector<float> weights;
};

int clamped(int at, int size) { return std::min(std::max(at, 0), size - 1); }

// Where the middle of position `to` of the new axis lies on the old one: the position before it, and how far behind.
std::pair<int, float> source(int to, double scale) {
  const float place = (float)((to + 0.5) * scale - 0.5);
  const int before = (int)std::floor(place);
  return {before, place - (float)before};
}

Taps linear(int to, int size, double scale) {
  const auto [before, part] = source(to, scale);
  return {{clamped(before, size), clamped(before + 1, size)}, {1.f - part, part}};
}

Taps cubic(int to, int size, double scale) {
  const auto [before, x] = source(to, scale);
  constexpr float a = -0.75f;
  float w[4] = {((a * (x + 1) - 5 * a) * (x + 1) + 8 * a) * (x + 1) - 4 * a,
                ((a + 2) * x - (a + 3)) * x * x + 1, ((a + 2) * (1 - x) - (a + 3)) * (1 - x) * (1 - x) + 1,
                0};
  w[3] = 1.f - w[0] - w[1] - w[2];
  Taps taps;
  for (int i = 0; i < 4; i++) {
    taps.at.push_back(clamped(before - 1 + i, size));
    taps.weights.push_back(w[i]);
  }
  return taps;
}

// The share of every old position in the new one's extent.
Taps area(int to, int size, double scale) {
  constexpr double kLeast = 1e-3;
  const double begin = to * scale, end = begin + scale, extent = std::min(scale, size - begin);
  const int last = std::min((int)std::floor(end), size - 1), first = std::min((int)std::ceil(begin), last);
  Taps taps;
  auto add = [&](int at, double weight) {
    taps.at.push_back(at);
    taps.weights.push_back((float)weight);
  };
  if (first - begin > kLeast) add(first - 1, (first - begin) / extent);
  for (int at = first; at < last; at++) add(at, 1.0 / extent);
  if (end - last > kLeast) add(last, std::min(std::min(end - last, 1.0), extent) / extent);
  return taps;
}

template <class Method>
std::vector<Taps> axis(Method method, int from, int count, int size, double scale) {
  std::vector<Taps> taps;
  for (int i = 0; i < count; i++) taps.push_back(method(from + i, size, scale));
  return taps;
}

uint8_t saturated(long value) { return (uint8_t)std::min(std::max(value, 0l), 255l); }

// Sums of floats, row by row, rounded to the nearest, of halves to the even one.
void sum_floats(const uint8_t* pixels, int width, const std::vector<Taps>& rows,
                const std::vector<Taps>& columns, uint8_t* out) {
  std::vector<float> line(columns.size() * kChannels), sum(line.size());
  for (const Taps& row : rows) {
    std::fill(sum.begin(), sum.end(), 0.f);
    for (size_t r = 0; r < row.at.size(); r++) {
      const uint8_t* from = pixels + (size_t)row.at[r] * width * kChannels;
      std::fill(line.begin(), line.end(), 0.f);
      for (size_t x = 0; x < columns.size(); x++)
        for (size_t k = 0; k < columns[x].at.size(); k++)
          for (int c = 0; c < kChannels; c++)
            line[x * kChannels + c] += from[(size_t)columns[x].at[k] * kChannels + c] * columns[x].weights[k];
      for (size_t i = 0; i < sum.size(); i++) sum[i] += row.weights[r] * line[i];
    }
    for (float value : sum) *out++ = saturated(std::lrint(value));
  }
}

// Sums of two rows of sums of two columns in fixed point, whose low bits are dropped in between, as OpenCV has them.
void sum_fixed(const uint8_t* pixels, int width, const std::vector<Taps>& rows,
               const std::vector<Taps>& columns, uint8_t* out) {
  auto fixed = [](float weight) { return (int)std::lrint(weight * (1 << kBits)); };
  for (const Taps& row : rows)
    for (const Taps& column : columns)
      for (int c = 0; c < kChannels; c++) {
        int sum = 2;
        for (int r = 0; r < 2; r++) {
          const uint8_t* from = pixels + (size_t)row.at[r] * width * kChannels + c;
          const int line = from[(size_t)column.at[0] * kChannels] * fixed(column.weights[0]) +
                           from[(size_t)column.at[1] * kChannels] * fixed(column.weights[1]);
          sum += ((line >> 4) * fixed(row.weights[r])) >> 16;
        }
        *out++ = saturated(sum >> 2);
      }
}

// The mean of whole blocks of pixels: a sum of integers.
void mean_of_blocks(const uint8_t* pixels, int width, const Window& w, int high, int wide, uint8_t* out) {
  const float share = 1.f / (float)(high * wide);
  for (int y = w.top; y < w.top + w.rows; y++)
    for (int x = w.left; x < w.left + w.columns; x++)
      for (int c = 0; c < kChannels; c++) {
        int sum = 0;
        for (int i = 0; i < high; i++)
          for (int j = 0; j < wide; j++)
            sum += pixels[((size_t)(y * high + i) * width + x * wide + j) * kChannels + c];
        // Of 2x2 OpenCV rounds halves up.
        *out++ =
            high == 2 && wide == 2 ? (uint8_t)((sum + 2) >> 2) : saturated(std::lrint((float)sum * share));
      }
}

void nearest(const uint8_t* pixels, int height, int width, const Window& w, double scale_y, double scale_x,
             uint8_t* out) {
  for (int y = w.top; y < w.top + w.rows; y++)
    for (int x = w.left; x < w.left + w.columns; x++) {
      const int row = std::min((int)std::floor(y * scale_y), height - 1);
      const int column = std::min((int)std::floor(x * scale_x), width - 1);
      std::memcpy(out, pixels + ((size_t)row * width + column) * kChannels, kChannels);
      out += kChannels;
    }
}

}  // namespace

std::vector<uint8_t> resized(const uint8_t* pixels, int height, int width, const Window& w,
                             igc_interpolation interpolation) {
  std::vector<uint8_t> out((size_t)w.rows * w.columns * kChannels);
  if (w.height == height && w.width == width) {
    for (int y = 0; y < w.rows; y++)
      std::memcpy(&out[(size_t)y * w.columns * kChannels],
                  pixels + ((size_t)(w.top + y) * width + w.left) * kChannels, (size_t)w.columns * kChannels);
    return out;
  }
  const double scale_y = 1.0 / ((double)w.height / height), scale_x = 1.0 / ((double)w.width / width);
  const int high = (int)std::lrint(scale_y), wide = (int)std::lrint(scale_x);
  const bool whole = std::abs(scale_y - high) < 2.2e-16 && std::abs(scale_x - wide) < 2.2e-16;
  const bool smaller = scale_y >= 1 && scale_x >= 1;
  auto both = [&](auto method, auto sum) {
    sum(pixels, width, axis(method, w.top, w.rows, height, scale_y),
        axis(method, w.left, w.columns, width, scale_x), out.data());
  };
  if (interpolation == IGC_NEAREST)
    nearest(pixels, height, width, w, scale_y, scale_x, out.data());
  else if ((interpolation == IGC_AREA && smaller && whole) ||
           (interpolation == IGC_BILINEAR && whole && high == 2 && wide == 2))
    mean_of_blocks(pixels, width, w, high, wide, out.data());
  else if (interpolation == IGC_AREA && smaller)
    both(area, sum_floats);
  else if (interpolation == IGC_BILINEAR)
    both(linear, sum_fixed);
  else  // IGC_AREA to a larger one is cubic, too: see igc_interpolation
    both(cubic, sum_floats);
  return out;
}

}  // namespace igc
