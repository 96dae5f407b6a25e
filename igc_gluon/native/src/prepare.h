// A photograph as a network of an .igc file expects it.
#pragma once

#include <cstdint>
#include <vector>

#include "../include/igc_file.h"

namespace igc {

// rgb: height x width x 3, row by row -> what igc_normalize takes: resized, the middle cut out, with the border, in the
// model's order of colors. Throws BadArgument.
std::vector<uint8_t> prepared(const igc_model_info& info, const uint8_t* rgb, int32_t height, int32_t width);

}  // namespace igc
