// train_pool.cpp - max pooling forward and back. What it makes is kept as every layer's u, with a normalization
// that changes nothing.
#include "train_pass.h"

namespace igc {
namespace {

PoolTask pool_task(const TrainLayer& layer, Plane x, float* y) {
  const igc_op& s = layer.lead();
  PoolTask task = {};
  task.x = x.at;
  task.x_row = x.row;
  task.x_pixel = x.pixel;
  task.y = y;
  task.y_row = row_floats(layer.out, layer.layout);
  task.y_pixel = task.positions = layer.layout.positions;
  task.height = layer.in.height;
  task.width = layer.in.width;
  task.out_width = layer.out.width;
  task.kernel_h = task.kernel_w = s.kernel_h;
  task.stride = s.stride;
  task.pad_h = task.pad_w = s.pad_h;
  return task;
}

}  // namespace

void Pass::pool_layer(TrainLayer& layer) {
  over_whole_images([&](TrainSlice&, TrainScratch& scratch, int64_t begin, int64_t end) {
    const Plane x = bordered(scratch.x.get(), layer.in, layer.layout.positions, 0);
    for (int64_t n = begin; n < end; n++) {
      const PoolTask task = pool_task(layer, x, layer.u + n * image_floats(layer.out, layer.layout));
      int filled = 0;
      for (int r0 = 0, r1; r0 < layer.out.height; r0 = r1) {
        r1 = std::min(layer.out.height, r0 + layer.tile_rows);
        const int need = r1 == layer.out.height ? layer.in.height : rows_read(layer, r1);
        if (need > filled) fill_input(layer, layer.stores_input, scratch, n, x, filled, need);
        filled = std::max(filled, need);
        net_.kernels->max_pool(task, r0, r1);
      }
    }
  });
}

void Pass::pool_layer_back(TrainLayer& layer, float* const* gradients, float* dx) {
  const igc_op& s = layer.lead();
  if (s.input == 0 && !dx) return;
  const ptrdiff_t in_row = row_floats(layer.in, layer.layout);
  over_whole_images([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    clear_sums(slice);
    const Plane x = bordered(scratch.x.get(), layer.in, layer.layout.positions, 0);
    float* const result = scratch.result.get();
    for (int64_t n = begin; n < end; n++) {
      const ptrdiff_t at = n * image_floats(layer.out, layer.layout);
      const PoolBackTask task = {pool_task(layer, x, layer.u + at),
                                 net_.gradient_memory[net_.values[layer.value].gradient] + at, result};
      int filled = 0, done = 0;
      for (int r0 = 0, r1; r0 < layer.out.height; r0 = r1) {
        r1 = std::min(layer.out.height, r0 + layer.tile_rows);
        const bool last = r1 == layer.out.height;
        const int need = last ? layer.in.height : rows_read(layer, r1);
        if (need > filled) {
          fill_input(layer, false, scratch, n, x, filled, need);
          std::fill(result + filled * in_row, result + need * in_row, 0.0f);
          filled = need;
        }
        train_.max_pool_back(task, r0, r1);
        const int limit = last ? layer.in.height : std::min(filled, s.stride * r1 - s.pad_h);
        if (limit > done) {
          take_result(layer, result + done * in_row, slice, scratch, n, done, limit, dx);
          done = limit;
        }
      }
    }
  });
  if (layer.last_of_input && s.input > 0) normalize_back(s.input, gradients);
}

}  // namespace igc
