// An image to another size, as OpenCV's resize does it to 8-bit pixels: the networks were trained on its results.
#pragma once

#include <cstdint>
#include <vector>

#include "../include/igc_file.h"

namespace igc {

// Part of an image of `height` x `width` after resizing.
struct Window {
  int height, width;             // of the resized image
  int top, left, rows, columns;  // of the part that is wanted
};

// pixels: height x width x 3, row by row -> the window's rows x columns x 3. Only what the window needs is computed.
std::vector<uint8_t> resized(const uint8_t* pixels, int height, int width, const Window& window,
                             igc_interpolation interpolation);

}  // namespace igc
