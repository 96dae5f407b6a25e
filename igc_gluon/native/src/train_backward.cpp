// train_backward.cpp - gradients of a batch, from the scores back to the image.
#include "train_pass.h"

namespace igc {

void Pass::pool_back(const float* dy, float* const* gradients) {
  const int last = (int)net_.values.size() - 1;
  const TrainValue& value = net_.values[last];
  const ptrdiff_t row = row_floats(value.shape, value.layout);
  const int positions = value.layout.positions;
  over_slices([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    clear_sums(slice);
    const float scale = 1.0f / ((float)value.shape.height * (float)value.shape.width);
    for (int64_t n = begin; n < end; n++) {
      for (ptrdiff_t i = 0; i < row; i++) {
        const int channel = value.layout.channel_at[i % positions];
        scratch.result[i] = channel < 0 ? 0 : dy[n * value.shape.channels + channel] * scale;
      }
      for (int r = 0; r < value.shape.height; r++) finish(last, true, slice, scratch, n, r, 1);
    }
  });
  normalise_back(last, gradients);
}

void Pass::backward_layer(TrainLayer& layer, float* const* gradients, float* dx) {
  over_slices([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    backward_slice(layer, slice, scratch, begin, end, dx);
  });
  give_weights(layer, gradients);
  if (layer.last_of_input && layer.spec.input > 0) normalise_back(layer.spec.input, gradients);
}

void Pass::finish(int index, bool first, TrainSlice& slice, TrainScratch& scratch, int64_t n, int row,
                  int rows) {
  const TrainValue& value = net_.values[index];
  const TrainLayer& producer = net_.layers[value.producer];
  const ptrdiff_t at =
      n * image_floats(value.shape, value.layout) + row * row_floats(value.shape, value.layout);
  const int positions = value.layout.positions;
  float* to = net_.gradient_memory[value.gradient] + at;
  FinishTask task = {};
  task.activation = producer.spec.activation;
  task.from = scratch.result.get();
  task.more = first ? nullptr : to;
  task.again = value.sums.empty() ? nullptr : net_.gradient_memory[net_.values[value.sums[0]].gradient] + at;
  task.to = to;
  task.value = value.kept && task.activation == kRelu ? value.stored + at : nullptr;
  task.u = producer.u + at;
  task.a = producer.a.get();
  task.b = producer.b.get();
  task.mean = producer.mean.get();
  if (value.shortcut_layer >= 0) {
    const TrainLayer& shortcut = net_.layers[value.shortcut_layer];
    task.u2 = shortcut.u + at;
    task.mean2 = shortcut.mean.get();
  }
  task.sum = scratch.sums.get();
  task.dot = task.sum + net_.sum_floats;
  task.dot2 = task.dot + net_.sum_floats;
  task.pixels = rows * value.shape.width;
  task.positions = positions;
  train_.finish(task);
  add_to(slice.sum, task.sum, positions);
  add_to(slice.dot, task.dot, positions);
  if (task.u2) add_to(slice.dot2, task.dot2, positions);
}

void Pass::backward_slice(TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, int64_t begin,
                          int64_t end, float* dx) {
  clear_sums(slice);
  std::fill(slice.weights.get(),
            slice.weights.get() + layer.conv_weights.floats() + layer.mix_weights.floats(), 0.0f);
  const int input = layer.spec.input, stride = layer.spec.stride, pad = layer.spec.kernel / 2;
  const Layout& in = net_.values[input].layout;
  const int width = layer.out.width, positions = layer.layout.positions;
  const ptrdiff_t row = row_floats(layer.out, layer.layout);
  const Plane x = bordered(scratch.x.get(), layer.in, in.positions, pad);
  const Plane d = bordered(scratch.d.get(), layer.out, positions, pad);
  Plane middle = {scratch.middle.get(), row, positions};
  const Plane du = {scratch.du.get(), row, positions};
  const float* gradient = net_.gradient_memory[net_.values[layer.value].gradient];
  for (int64_t n = begin; n < end; n++) {
    int filled = 0, done = 0;
    for (int r0 = 0, r1; r0 < layer.out.height; r0 = r1) {
      r1 = std::min(layer.out.height, r0 + layer.tile_rows);
      const int rows = r1 - r0, need = rows_read(layer, r1);
      if (need > filled) fill(input, false, n, x, filled, need);
      filled = std::max(filled, need);
      const Plane from = from_row(x, (ptrdiff_t)r0 * stride), to = from_row(d, r0);
      const ptrdiff_t at = (n * layer.out.height + r0) * row;
      Ahead ahead;
      foresee(ahead, input, false, n, filled, layer.tile_rows * stride);
      ahead.add(gradient + at + rows * row, layer.tile_rows * row);
      ahead.add(layer.u + at + rows * row, layer.tile_rows * row);
      if (layer.block) {
        if (layer.keeps_middle) {
          middle.at = layer.kept + at;
          ahead.add(middle.at + rows * row, layer.tile_rows * row);
        } else {
          run_conv(layer.conv, from, middle, {}, width, 0, rows);
        }
        ahead.ask(0, 5);
        train_.normalise_back(gradient + at, layer.u + at, layer.ka.get(), layer.kb.get(), layer.kc.get(),
                              du.at, rows * width, positions);
        secondary_back(layer, slice, middle, du, to, rows, ahead);
      } else {
        for (int r = 0; r < rows; r++)
          train_.normalise_back(gradient + at + r * row, layer.u + at + r * row, layer.ka.get(),
                                layer.kb.get(), layer.kc.get(), to.at + r * to.row, width, positions);
      }
      if (layer.pointwise)
        mix_weights(layer, slice, from, stride, to, rows);
      else
        conv_weights(layer, slice, from, to, rows);
      ahead.ask(3, 5);
      if (!layer.block)
        for (int part = 0; part < 3; part++) ahead.ask(part, 5);
      const int limit =
          r1 == layer.out.height ? layer.in.height : std::min(layer.in.height, stride * r1 - pad);
      if (limit > done && (input > 0 || dx)) {
        lead_back(layer, d, scratch.result.get(), done, limit);
        take_result(layer, slice, scratch, n, done, limit, dx);
      }
      done = std::max(done, limit);
      ahead.ask(4, 5);
    }
  }
}

void Pass::secondary_back(const TrainLayer& layer, TrainSlice& slice, Plane middle, Plane du, Plane d,
                          int rows, const Ahead& ahead) {
  if (!layer.fours) {
    mix_weights(layer, slice, middle, 1, du, rows);
    ahead.ask(1, 5);
    run_mix(layer.mix_back, du, d, {}, layer.out.width, 0, rows);
    ahead.ask(2, 5);
    return;
  }
  FoursTask task = {};
  task.x = middle.at;
  task.x_row = middle.row;
  task.x_pixel = middle.pixel;
  task.d = du.at;
  task.d_row = du.row;
  task.d_pixel = du.pixel;
  task.w = slice.weights.get() + layer.conv_weights.floats();
  task.vectors = layer.layout.positions / 16;
  task.width = layer.out.width;
  train_.fours_weights(task, rows);
  ahead.ask(1, 5);
  mix_fours(layer, layer.fours_back, du, d, rows);
  ahead.ask(2, 5);
}

void Pass::mix_fours(const TrainLayer& layer, const float* weights, Plane x, Plane y, int rows) {
  FoursTask task = {};
  task.x = x.at;
  task.x_row = x.row;
  task.x_pixel = x.pixel;
  task.weights = weights;
  task.y = y.at;
  task.y_row = y.row;
  task.y_pixel = y.pixel;
  task.vectors = layer.layout.positions / 16;
  task.width = layer.out.width;
  train_.fours(task, rows);
}

void Pass::lead_back(const TrainLayer& layer, Plane d, float* result, int begin, int end) {
  const int positions = gradient_positions(layer.spec.input), stride = layer.spec.stride;
  const ptrdiff_t row = (ptrdiff_t)layer.in.width * positions;
  if (stride > 1 && layer.spec.kernel < 3) std::fill(result, result + (end - begin) * row, 0.0f);
  if (layer.pointwise) {
    const Plane to = {result - begin * row, stride * row, (ptrdiff_t)stride * positions};
    run_mix(layer.mix_back, d, to, {}, layer.out.width, (begin + stride - 1) / stride,
            (end + stride - 1) / stride);
    return;
  }
  for (const BackPart& part : layer.conv_back) {
    if (part.conv.blocks.empty()) continue;
    const Plane to = {result + (part.row - begin) * row + (ptrdiff_t)part.column * positions, stride * row,
                      (ptrdiff_t)stride * positions};
    const int first = (begin - part.row + stride - 1) / stride, last = (end - part.row + stride - 1) / stride;
    if (last > first) run_conv(part.conv, d, to, {}, part.columns, first, last);
  }
}

void Pass::take_result(const TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, int64_t n,
                       int begin, int end, float* dx) {
  const int input = layer.spec.input;
  const TrainValue& value = net_.values[input];
  const TrainShape& shape = value.shape;
  if (input == 0) {
    add_to_image(layer, scratch.result.get(), dx + n * (ptrdiff_t)shape.channels * shape.height * shape.width,
                 begin, end);
    return;
  }
  if (layer.last_of_input) return finish(input, layer.first_of_input, slice, scratch, n, begin, end - begin);
  const ptrdiff_t row = row_floats(shape, value.layout), count = (end - begin) * row;
  float* to = net_.gradient_memory[value.gradient] + n * image_floats(shape, value.layout) + begin * row;
  if (layer.first_of_input)
    std::copy(scratch.result.get(), scratch.result.get() + count, to);
  else
    train_.add(scratch.result.get(), to, to, (end - begin) * shape.width, value.layout.positions);
}

}  // namespace igc
