// int8_run.cpp - rows of the steps on bytes (int8_convolution.cpp), and of those that convert to and from bytes.
#include <algorithm>

#include "net.h"

namespace igc {
namespace {

uint8_t* row_of_bytes(Plane plane, ptrdiff_t row) {
  return reinterpret_cast<uint8_t*>(plane.at + row * plane.row);
}

void quantise_rows(const Int8Kernels& kernels, Scale scale, int positions, Plane x, Plane y, int width,
                   int begin, int end) {
  for (int r = begin; r < end; r++)
    kernels.quantise({row_of_bytes(x, r), row_of_bytes(y, r), 4 * x.pixel, 4 * y.pixel, width, positions,
                      1 / scale.step, (float)scale.zero});
}

void make_quads_of_rows(const Int8Kernels& kernels, const Step& step, Plane x, Plane y, int width, int begin,
                        int end) {
  for (int r = begin; r < end; r++)
    for (size_t i = 0; i < step.from.chunks.size(); i++)
      kernels.make_quads({row_of_bytes(x, r) + step.from.chunks[i].offset,
                          row_of_bytes(y, r) + step.to.chunks[i].offset, 4 * x.pixel, 4 * y.pixel, width,
                          (step.from.members + 3) / 4, step.from.chunks[i].width});
}

}  // namespace

void run_int8_rows(const Int8Kernels& kernels, const Step& step, Plane x, Plane y, Plane residual, int width,
                   int begin, int end, float* scratch) {
  if (step.work == Work::Int8Conv) return run_int8_conv(step.int8_conv, x, y, residual, width, begin, end);
  if (step.work == Work::Int8Pointwise)
    return run_int8_pointwise(step.int8_pointwise, x, y, residual, width, begin, end);
  const ptrdiff_t row = (ptrdiff_t)width * step.byte_pixel;
  const Plane middle = {scratch, row, step.byte_pixel};
  const Plane other = {scratch + step.tile_rows * row, (ptrdiff_t)width * step.middle_pixel,
                       step.middle_pixel};
  const bool quads = !step.from.chunks.empty();
  for (int first = begin; first < end; first += step.tile_rows) {
    const int rows = std::min(step.tile_rows, end - first);
    const Plane to = from_row(y, first);
    if (step.work == Work::Int8ConvPointwise) {
      run_int8_conv(step.int8_conv, from_row(x, (ptrdiff_t)first * step.int8_conv.stride), middle, {}, width,
                    0, rows);
    } else {
      run_conv(step.conv, from_row(x, (ptrdiff_t)first * step.conv.stride), other, {}, width, 0, rows);
      quantise_rows(kernels, step.scale, 4 * step.byte_pixel, other, middle, width, 0, rows);
    }
    run_int8_pointwise(step.int8_pointwise, middle, quads ? other : to, from_row(residual, first), width, 0,
                       rows);
    if (quads) make_quads_of_rows(kernels, step, other, to, width, 0, rows);
  }
}

void convert_rows(const Int8Kernels& kernels, const Step& step, int positions, Plane x, Plane y, int width,
                  int begin, int end) {
  if (step.work == Work::Quantise)
    return quantise_rows(kernels, step.scale, positions, x, y, width, begin, end);
  if (step.work == Work::MakeQuads) return make_quads_of_rows(kernels, step, x, y, width, begin, end);
  for (int r = begin; r < end; r++) {
    uint8_t *from = row_of_bytes(x, r), *to = row_of_bytes(y, r);
    const ptrdiff_t from_pixel = 4 * x.pixel, to_pixel = 4 * y.pixel;
    if (step.work == Work::Reorder) {
      for (int c = 0; c < width; c++)
        for (size_t p = 0; p < step.source.size(); p++)
          to[c * to_pixel + p] = step.source[p] < 0 ? 0 : from[c * from_pixel + step.source[p]];
    } else {
      kernels.dequantise({from, to, from_pixel, to_pixel, width, positions, step.scale.step,
                          -step.scale.step * (float)step.scale.zero});
    }
  }
}

}  // namespace igc
