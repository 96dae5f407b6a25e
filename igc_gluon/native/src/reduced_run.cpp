// reduced_run.cpp - rows of the steps on bytes or bfloat16 (planner_reduced.cpp), and of those that convert to and from them.
#include <algorithm>
#include <cstring>

#include "net.h"

namespace igc {
namespace {

uint8_t* row_of_elements(Plane plane, ptrdiff_t row) {
  return reinterpret_cast<uint8_t*>(plane.at + row * plane.row);
}

void reduce_rows(const ReducedKernels& kernels, Scale scale, int positions, Plane x, Plane y, int width,
                 int begin, int end) {
  for (int r = begin; r < end; r++)
    kernels.reduce({row_of_elements(x, r), row_of_elements(y, r), 4 * x.pixel, 4 * y.pixel, width, positions,
                    1 / scale.step, (float)scale.zero});
}

void make_words_of_rows(const ReducedKernels& kernels, const Step& step, Plane x, Plane y, int width,
                        int begin, int end) {
  const int size = bytes_of(kernels.element);
  for (int r = begin; r < end; r++)
    for (size_t i = 0; i < step.from.chunks.size(); i++)
      kernels.make_words({row_of_elements(x, r) + step.from.chunks[i].offset * size,
                          row_of_elements(y, r) + step.to.chunks[i].offset * size, 4 * x.pixel, 4 * y.pixel,
                          width, step.from.members, step.from.chunks[i].width});
}

}  // namespace

// What runs on AMX alone. The scratch holds sums of the primary, then slices.
static void run_amx_rows(const Step& step, Plane x, Plane y, Plane residual, int width, int begin, int end,
                         float* scratch) {
  const Plane sums = {scratch, (ptrdiff_t)width * step.middle_pixel, step.middle_pixel};
  float* const slices = scratch + step.tile_rows * sums.row;
  for (int first = begin; first < end; first += step.tile_rows) {
    const int rows = std::min(step.tile_rows, end - first);
    const Plane from = from_row(x, (ptrdiff_t)first * step.amx.stride), to = from_row(y, first),
                added = from_row(residual, first);
    if (step.work == Work::AmxBlock) {
      run_amx_conv(step.amx, from, sums, {}, width, 0, rows, slices);
      run_amx_mix(step.mix, sums, to, added, width, 0, rows);
    } else {
      run_amx_conv(step.amx, from, to, added, width, 0, rows, slices);
    }
  }
}

void run_reduced_rows(const ReducedKernels& kernels, const Step& step, Plane x, Plane y, Plane residual,
                      int width, int begin, int end, float* scratch) {
  const bool on_amx = !step.amx.blocks.empty();
  if (on_amx && step.work != Work::ConvReducedPointwise && step.work != Work::ReducedConvPointwise)
    return run_amx_rows(step, x, y, residual, width, begin, end, scratch);
  if (step.work == Work::ReducedConv)
    return run_reduced_conv(kernels.element, step.reduced_conv, x, y, residual, width, begin, end);
  if (step.work == Work::ReducedPointwise)
    return run_reduced_pointwise(step.reduced_pointwise, x, y, residual, width, begin, end);
  const ptrdiff_t row = (ptrdiff_t)width * step.reduced_pixel;
  const Plane middle = {scratch, row, step.reduced_pixel};
  const Plane other = {scratch + step.tile_rows * row, (ptrdiff_t)width * step.middle_pixel,
                       step.middle_pixel};
  const bool quads = !step.from.chunks.empty();
  for (int first = begin; first < end; first += step.tile_rows) {
    const int rows = std::min(step.tile_rows, end - first);
    const Plane to = from_row(y, first);
    if (step.work == Work::ReducedConvPointwise) {
      run_reduced_conv(kernels.element, step.reduced_conv,
                       from_row(x, (ptrdiff_t)first * step.reduced_conv.stride), middle, {}, width, 0, rows);
    } else {
      run_conv(step.conv, from_row(x, (ptrdiff_t)first * step.conv.stride), other, {}, width, 0, rows);
      reduce_rows(kernels, step.scale, per_word(kernels.element) * step.reduced_pixel, other, middle, width,
                  0, rows);
    }
    const Plane results = quads ? other : to, added = from_row(residual, first);
    if (on_amx)
      run_amx_conv(step.amx, middle, results, added, width, 0, rows, nullptr);
    else
      run_reduced_pointwise(step.reduced_pointwise, middle, results, added, width, 0, rows);
    if (quads) make_words_of_rows(kernels, step, other, to, width, 0, rows);
  }
}

void convert_rows(const ReducedKernels& kernels, const Step& step, int positions, Plane x, Plane y, int width,
                  int begin, int end) {
  if (step.work == Work::Reduce) return reduce_rows(kernels, step.scale, positions, x, y, width, begin, end);
  if (step.work == Work::MakeWords) return make_words_of_rows(kernels, step, x, y, width, begin, end);
  for (int r = begin; r < end; r++) {
    uint8_t *from = row_of_elements(x, r), *to = row_of_elements(y, r);
    const ptrdiff_t from_pixel = 4 * x.pixel, to_pixel = 4 * y.pixel;
    if (step.work == Work::Reorder) {
      const size_t size = bytes_of(kernels.element);
      for (int c = 0; c < width; c++)
        for (size_t p = 0; p < step.source.size(); p++) {
          uint8_t* const at = to + c * to_pixel + p * size;
          if (step.source[p] < 0)
            std::memset(at, 0, size);
          else
            std::memcpy(at, from + c * from_pixel + step.source[p] * size, size);
        }
    } else {
      kernels.widen({from, to, from_pixel, to_pixel, width, positions, step.scale.step,
                     -step.scale.step * (float)step.scale.zero});
    }
  }
}

}  // namespace igc
