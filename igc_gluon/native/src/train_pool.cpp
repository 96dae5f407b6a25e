// train_pool.cpp - max pooling forward and back. What it makes is kept as every layer's u, with a normalization
// that changes nothing.
#include "train_pass.h"

namespace igc {

void Pass::pool_layer(const TrainLayer& layer) {
  over_whole_images([&](TrainSlice&, TrainScratch& scratch, int64_t begin, int64_t end) {
    const Plane x = bordered(scratch.x.get(), layer.in, layer.layout.positions, 0);
    for (int64_t n = begin; n < end; n++) {
      const Plane y = {memory(layer.u) + n * image_floats(layer.out, layer.layout),
                       row_floats(layer.out, layer.layout), layer.layout.positions};
      const PoolTask task = pool_task(layer.lead(), x, layer.in, y, layer.out.width, layer.layout.positions);
      int filled = 0;
      for (int r0 = 0, r1; r0 < layer.out.height; r0 = r1) {
        r1 = std::min(layer.out.height, r0 + layer.tile_rows);
        const int need = r1 == layer.out.height ? layer.in.height : rows_read(layer, r1);
        if (need > filled) fill_input(layer, layer.stores_input, scratch, n, x, filled, need);
        filled = std::max(filled, need);
        plan_.kernels->max_pool(task, r0, r1);
      }
    }
  });
}

void Pass::pool_layer_back(const TrainLayer& layer, float* const* gradients, float* dx) {
  const igc_op& s = layer.lead();
  if (s.input == 0 && !dx) return;
  const ptrdiff_t in_row = row_floats(layer.in, layer.layout);
  const int positions = layer.layout.positions;
  over_whole_images([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    clear_sums(slice);
    const Plane x = bordered(scratch.x.get(), layer.in, layer.layout.positions, 0);
    float* const result = scratch.result.get();
    for (int64_t n = begin; n < end; n++) {
      const ptrdiff_t at = n * image_floats(layer.out, layer.layout);
      const PoolBackTask task = {
          pool_task(s, x, layer.in, {memory(layer.u) + at, row_floats(layer.out, layer.layout), positions},
                    layer.out.width, positions),
          gradient(plan_.values[layer.value]) + at, result};
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
