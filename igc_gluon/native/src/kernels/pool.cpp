// pool.cpp - max pooling and the mean over an image, 16 channels at a time. Bound by loads: no register tile.
#include "kernels.h"
#include "simd.h"

namespace igc {
namespace IGC_TARGET {

static int clip(int v, int high) { return v < 0 ? 0 : v > high ? high : v; }

void max_pool(const PoolTask& t, int row_begin, int row_end) {
  for (int r = row_begin; r < row_end; r++) {
    const int top = clip(r * t.stride - t.pad_h, t.height),
              bottom = clip(r * t.stride - t.pad_h + t.kernel_h, t.height);
    for (int c = 0; c < t.out_width; c++) {
      const int left = clip(c * t.stride - t.pad_w, t.width),
                right = clip(c * t.stride - t.pad_w + t.kernel_w, t.width);
      for (int i = 0; i < t.positions; i += 16) {
        vec best = load(t.x + top * t.x_row + left * t.x_pixel + i);
        for (int y = top; y < bottom; y++)
          for (int x = left; x < right; x++) best = max(best, load(t.x + y * t.x_row + x * t.x_pixel + i));
        store(t.y + r * t.y_row + c * t.y_pixel + i, best);
      }
    }
  }
}

void mean_pool(const PoolTask& t, int begin, int end) {
  const vec scale = splat(1.0f / ((float)t.height * (float)t.width));
  for (int i = 16 * begin; i < 16 * end; i += 16) {
    vec total = zero();
    for (int y = 0; y < t.height; y++) {
      vec row = zero();  // Two levels keep the rounding error of large images down.
      for (int x = 0; x < t.width; x++) row = add(row, load(t.x + y * t.x_row + x * t.x_pixel + i));
      total = add(total, row);
    }
    store(t.y + i, mul(total, scale));
  }
}

}  // namespace IGC_TARGET
}  // namespace igc
