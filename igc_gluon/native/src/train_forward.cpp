// train_forward.cpp - convolutions of a batch and its statistics.
#include "train_pass.h"

namespace igc {

void Pass::forward_layer(const TrainLayer& layer, const float* const* parameters, float* const* running) {
  over_slices([&](TrainSlice& slice, TrainScratch& scratch, const Share& of) {
    forward_slice(layer, slice, scratch, of);
  });
  normalize(layer, parameters, running);
}

void Pass::output(float* y) {
  const TrainValue& value = plan_.values.back();
  const int positions = value.layout.positions, channels = value.shape.channels, height = value.shape.height,
            width = value.shape.width;
  over_whole_images([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    const Plane row = {scratch.x.get(), 0, positions};
    for (int64_t n = begin; n < end; n++) {
      std::fill(slice.sum.begin(), slice.sum.end(), 0.0);
      for (int r = 0; r < height; r++) {
        fill((int)plan_.values.size() - 1, true, n, row, r, r + 1);
        if (plan_.maps)
          unpack_rows(row, value.layout, height, width, y + n * channels * height * width, r, r + 1);
        else
          for (int i = 0; i < width; i++) add_to(slice.sum, row.at + i * positions, positions);
      }
      if (plan_.maps) continue;
      for (int p = 0; p < positions; p++)
        if (value.layout.channel_at[p] >= 0)
          y[n * channels + value.layout.channel_at[p]] = (float)(slice.sum[p] / ((double)height * width));
    }
  });
}

void Pass::forward_slice(const TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, const Share& of) {
  clear_sums(slice);
  const int input = layer.lead().input, stride = layer.lead().stride;
  const int width = layer.out.width, positions = layer.layout.positions;
  const size_t n_stages = layer.stages.size();
  const ptrdiff_t row = row_floats(layer.out, layer.layout);
  const Plane x = bordered(scratch.x.get(), layer.in, layer.input.positions, layer.lead().pad_h);
  float *first = scratch.sums.get(), *second = first + plan_.sum_floats;
  const int begin_row = of.first_row(layer.out.height), end_row = of.end_row(layer.out.height),
            own = rows_done(layer, begin_row, 0), own_end = rows_done(layer, end_row, 0);
  for (int64_t n = of.begin; n < of.end; n++) {
    int filled = std::max(0, begin_row * stride - layer.lead().pad_h);
    for (int r0 = begin_row, r1; r0 < end_row; r0 = r1) {
      r1 = std::min(end_row, r0 + layer.tile_rows);
      const int rows = r1 - r0, need = rows_read(layer, r1);
      if (need > filled) fill_own(layer, scratch, n, x, filled, need, own, own_end);
      filled = std::max(filled, need);
      Prefetch prefetch;  // activations of a batch come from memory
      prefetch_value(prefetch, input, layer.stores_input, n, filled, layer.tile_rows * stride);
      const Plane from = from_row(x, (ptrdiff_t)r0 * stride);
      float* at = memory(layer.u) + (n * layer.out.height + r0) * row;
      const Plane u = {at, row, positions};
      if (layer.in_registers()) {
        run_conv(layer.whole, from, u, {}, width, 0, rows, &prefetch);
      } else {
        Tiles tiles(scratch.middle.get(), layer);
        Plane before = from;
        for (size_t k = 0; k < n_stages; k++) {
          const int here = layer.stages[k].out.positions;
          Plane to = k + 1 == n_stages ? u : tiles.next(here, width);
          if (k == 0 && layer.keeps_middle) to.at = memory(layer.kept) + (n * layer.out.height + r0) * to.row;
          run_stage(layer.stages[k], before, to, width, rows, prefetch);
          before = to;
        }
      }
      if (n == of.begin && r0 == begin_row) choose_shift(slice, at, rows * width, positions);
      train_.moments(at, slice.shift.get(), first, second, rows * width, positions);
      add_to(slice.sum, first, positions);
      add_to(slice.dot, second, positions);
    }
    // A 1x1 convolution of stride 2 may leave out the last row, which must be stored all the same.
    if (filled < own_end && layer.stores_input && plan_.values[input].kept)
      fill_input(layer, true, scratch, n, x, filled, own_end);
  }
}

void Pass::run_stage(const TrainStage& stage, Plane x, Plane y, int width, int rows, Prefetch& prefetch) {
  if (stage.work == StageWork::Conv)
    run_conv(stage.conv, x, y, {}, width, 0, rows, &prefetch);
  else if (stage.work == StageWork::Pointwise)
    run_pointwise(stage.pointwise, x, y, {}, width, 0, rows, &prefetch);
  else
    fours(stage.weights->packed.weights.get(), stage.out.positions, x, y, width, rows);
}

void Pass::fours(const float* weights, int positions, Plane x, Plane y, int width, int rows) {
  FoursTask task = {};
  task.x = x.at;
  task.x_row = x.row;
  task.x_pixel = x.pixel;
  task.weights = weights;
  task.y = y.at;
  task.y_row = y.row;
  task.y_pixel = y.pixel;
  task.vectors = positions / 16;
  task.width = width;
  train_.fours(task, rows);
}

void Pass::choose_shift(TrainSlice& slice, const float* u, int pixels, int positions) {
  float* shift = slice.shift.get();
  std::fill(shift, shift + positions, 0.0f);
  for (int i = 0; i < pixels; i++)
    for (int c = 0; c < positions; c++) shift[c] += u[(ptrdiff_t)i * positions + c];
  for (int c = 0; c < positions; c++) shift[c] /= (float)pixels;
}

void Pass::normalize(const TrainLayer& layer, const float* const* parameters, float* const* running) {
  const float *const gamma = parameters[0], *const beta = parameters[1];
  LayerState& of_layer = state(layer);
  const double momentum = layer.last().momentum, epsilon = layer.last().epsilon;
  for (int p = 0; p < layer.layout.positions; p++) {
    const int channel = layer.layout.channel_at[p];
    if (channel < 0) continue;
    double count = 0, mean = 0, square = 0;
    for (int s = 0; s < n_slices_; s++) {
      const Share of = share_of(s);
      const TrainSlice& slice = space_.slices[s];
      const double n = (double)layer.out.width *
                       (of.end_row(layer.out.height) - of.first_row(layer.out.height)) *
                       (double)(of.end - of.begin);
      if (n == 0) continue;
      const double here = slice.shift[p] + slice.sum[p] / n, apart = here - mean;
      square += slice.dot[p] - slice.sum[p] * slice.sum[p] / n + apart * apart * count * n / (count + n);
      mean += apart * n / (count + n);
      count += n;
    }
    const double variance = square / count;
    of_layer.gamma[p] = gamma[channel];
    of_layer.mean[p] = (float)mean;
    of_layer.variance[p] = variance;
    // A value alone is its own mean: beta comes out, with no rounding.
    const double a = count > 1 ? gamma[channel] / std::sqrt(variance + epsilon) : 0;
    of_layer.a[p] = (float)a;
    of_layer.b[p] = (float)(beta[channel] - a * mean);
    const double now[] = {mean, variance};
    for (int k = 0; running && k < 2; k++)
      running[k][channel] = (float)(momentum * running[k][channel] + (1 - momentum) * now[k]);
  }
}

}  // namespace igc
