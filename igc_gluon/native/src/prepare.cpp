#include "prepare.h"

#include <algorithm>
#include <cmath>

#include "guard.h"
#include "resize.h"

namespace igc {
namespace {

// Of an image of which nobody said to what size it is resized, in files before version 3: as Python's Preprocessing.
int32_t natural_short_side(int32_t crop) { return crop >= 128 ? (int32_t)std::lrint(crop * 8.0 / 7) : crop; }

}  // namespace

std::vector<uint8_t> prepared(const igc_model_info& info, const uint8_t* rgb, int32_t height, int32_t width) {
  constexpr int32_t kColors = 3;
  constexpr double kLongest = 1 << 28;  // of a strip, resized; far above any photograph
  require(info.shape[0] == kColors, "the network takes no images in color");
  require(height > 0 && width > 0, "height and width of an image are above 0");
  const int32_t rows = info.shape[1], columns = info.shape[2], border = info.border;
  const int32_t inner_rows = rows - 2 * border, inner_columns = columns - 2 * border;
  std::vector<uint8_t> image((size_t)rows * columns * kColors, (uint8_t)info.fill);
  const auto at = [&](int32_t y, int32_t x) { return ((size_t)y * columns + x) * kColors; };
  bool has_border = border > 0 && height == rows && width == columns;
  for (int32_t y = 0; has_border && y < rows; y++)
    for (int32_t x = 0; has_border && x < columns; x++)
      if (y < border || y >= rows - border || x < border || x >= columns - border)
        has_border = std::all_of(rgb + at(y, x), rgb + at(y, x) + kColors,
                                 [&](uint8_t value) { return value == info.fill; });
  if (has_border) {
    std::copy(rgb, rgb + image.size(), image.begin());
  } else {
    const int32_t side =
        (info.short_side ? info.short_side : natural_short_side(std::max(rows, columns))) - 2 * border;
    const double factor = (double)side / std::min(height, width);
    require(std::max(height, width) * factor < kLongest, "the image is too long to be resized");
    const Window window{std::max(side, (int32_t)std::lrint(height * factor)),
                        std::max(side, (int32_t)std::lrint(width * factor)),
                        0,
                        0,
                        inner_rows,
                        inner_columns};
    Window middle = window;
    middle.top = (window.height - inner_rows) / 2;
    middle.left = (window.width - inner_columns) / 2;
    const std::vector<uint8_t> pixels =
        resized(rgb, height, width, middle, (igc_interpolation)info.interpolation);
    for (int32_t y = 0; y < inner_rows; y++)
      std::copy_n(&pixels[(size_t)y * inner_columns * kColors], (size_t)inner_columns * kColors,
                  &image[at(y + border, border)]);
  }
  if (info.color_order == IGC_BGR)
    for (size_t i = 0; i < image.size(); i += kColors) std::swap(image[i], image[i + 2]);
  return image;
}

}  // namespace igc
