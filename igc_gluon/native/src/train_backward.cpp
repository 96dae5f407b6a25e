// train_backward.cpp - gradients of a batch, from the scores back to the image.
#include "train_pass.h"

namespace igc {

void Pass::output_back(const float* dy, float* const* gradients) {
  const int last = (int)plan_.values.size() - 1;
  const TrainValue& value = plan_.values[last];
  const int positions = value.layout.positions, channels = value.shape.channels, height = value.shape.height,
            width = value.shape.width;
  over_whole_images([&](TrainSlice& slice, TrainScratch& scratch, int64_t begin, int64_t end) {
    clear_sums(slice);
    float* const result = scratch.result.get();
    const float scale = 1.0f / ((float)height * (float)width);
    for (int64_t n = begin; n < end; n++) {
      for (ptrdiff_t i = 0; !plan_.maps && i < row_floats(value.shape, value.layout); i++) {
        const int channel = value.layout.channel_at[i % positions];
        result[i] = channel < 0 ? 0 : dy[n * channels + channel] * scale;
      }
      for (int r = 0; r < height; r++) {
        if (plan_.maps)
          pack_rows(dy + n * channels * height * width, height, width, value.layout, {result, 0, positions},
                    r, r + 1);
        finish(last, true, result, slice, scratch, n, r, 1);
      }
    }
  });
  normalize_back(last, gradients);
}

void Pass::backward_layer(const TrainLayer& layer, float* const* gradients, float* dx) {
  // Where the gradient of the input is written over that of the result, slices of one image would write over rows that
  // others still read.
  const TrainValue &value = plan_.values[layer.value], &input = plan_.values[layer.lead().input];
  std::vector<std::vector<float>> copies(row_parts_ > 1 && value.gradient == input.gradient ? n_slices_ : 0);
  const ptrdiff_t row = row_floats(layer.out, layer.layout);
  for (size_t s = 0; s < copies.size(); s++) {
    const Share of = share_of((int)s);
    const float* const image = gradient(value) + of.begin * layer.out.height * row;
    copies[s].assign(image + (of.first_row(layer.out.height) - rows_above(layer, of)) * row,
                     image + of.end_row(layer.out.height) * row);
  }
  over_slices([&](TrainSlice& slice, TrainScratch& scratch, const Share& of) {
    backward_slice(layer, slice, scratch, of,
                   copies.empty() ? nullptr : copies[&slice - space_.slices.data()].data(), dx);
  });
  give_weights(layer, gradients);
  if (layer.last_of_input && layer.lead().input > 0) normalize_back(layer.lead().input, gradients);
}

void Pass::finish(int index, bool first, const float* result, TrainSlice& slice, TrainScratch& scratch,
                  int64_t n, int row, int rows) {
  const TrainValue& value = plan_.values[index];
  const TrainLayer& producer = plan_.layers[value.producer];
  const ptrdiff_t at =
      n * image_floats(value.shape, value.layout) + row * row_floats(value.shape, value.layout);
  const int positions = value.layout.positions;
  float* to = gradient(value) + at;
  FinishTask task = {};
  task.activation = producer.last().activation;
  task.from = result;
  task.more = first ? nullptr : to;
  task.again = value.sums.empty() ? nullptr : gradient(plan_.values[value.sums[0]]) + at;
  task.to = to;
  task.value = value.kept && task.activation == kRelu ? memory(value.stored) + at : nullptr;
  task.u = memory(producer.u) + at;
  task.a = state(producer).a.get();
  task.b = state(producer).b.get();
  task.mean = state(producer).mean.get();
  if (value.shortcut_layer >= 0) {
    const TrainLayer& shortcut = plan_.layers[value.shortcut_layer];
    task.u2 = memory(shortcut.u) + at;
    task.mean2 = state(shortcut).mean.get();
  }
  task.sum = scratch.sums.get();
  task.dot = task.sum + plan_.sum_floats;
  task.dot2 = task.dot + plan_.sum_floats;
  task.pixels = rows * value.shape.width;
  task.positions = positions;
  train_.finish(task);
  add_to(slice.sum, task.sum, positions);
  add_to(slice.dot, task.dot, positions);
  if (task.u2) add_to(slice.dot2, task.dot2, positions);
}

void Pass::backward_slice(const TrainLayer& layer, TrainSlice& slice, TrainScratch& scratch, const Share& of,
                          const float* copy, float* dx) {
  clear_sums(slice);
  std::fill(slice.weights.get(),
            slice.weights.get() + layer.stages.back().offset + layer.stages.back().weights->floats(), 0.0f);
  const int input = layer.lead().input, stride = layer.lead().stride, pad = layer.lead().pad_h;
  const int width = layer.out.width, positions = layer.layout.positions;
  const size_t n_stages = layer.stages.size();
  const ptrdiff_t row = row_floats(layer.out, layer.layout);
  const Plane x = bordered(scratch.x.get(), layer.in, layer.input.positions, pad);
  const Plane d = bordered(scratch.d.get(), layer.out, layer.stages[0].out.positions, pad);
  std::vector<Plane> results(n_stages);
  const float* const result_gradient = gradient(plan_.values[layer.value]);
  // Rows above a slice's own reach its part of the input's gradient too. Their share of the weights' is not its own.
  const int begin_row = of.first_row(layer.out.height), end_row = of.end_row(layer.out.height),
            start = begin_row - rows_above(layer, of);
  for (int64_t n = of.begin; n < of.end; n++) {
    int filled = std::max(0, begin_row * stride - pad), done = rows_done(layer, begin_row, pad);
    for (int r0 = start, r1; r0 < end_row; r0 = r1) {
      const bool own = r0 >= begin_row;
      r1 = std::min(own ? end_row : begin_row, r0 + layer.tile_rows);
      const int rows = r1 - r0, need = own ? rows_read(layer, r1) : 0;
      if (need > filled) fill_input(layer, false, scratch, n, x, filled, need);
      filled = std::max(filled, need);
      const Plane from = from_row(x, (ptrdiff_t)r0 * stride), to = from_row(d, r0);
      const ptrdiff_t at = (n * layer.out.height + r0) * row;
      const float* const d_out = copy ? copy + (r0 - start) * row : result_gradient + at;
      Prefetch prefetch;
      prefetch_value(prefetch, input, false, n, filled, layer.tile_rows * stride);
      prefetch.add(result_gradient + at + rows * row, layer.tile_rows * row);
      prefetch.add(memory(layer.u) + at + rows * row, layer.tile_rows * row);
      if (layer.several()) {
        Tiles tiles(scratch.middle.get(), layer), more(scratch.du.get(), layer);
        for (size_t k = 0; own && k + 1 < n_stages; k++) {
          const ptrdiff_t floats = (ptrdiff_t)width * layer.stages[k].out.positions;
          results[k] = tiles.next(layer.stages[k].out.positions, width);
          if (k == 0 && layer.keeps_middle) {
            results[k].at = memory(layer.kept) + (n * layer.out.height + r0) * floats;
            prefetch.add(results[k].at + rows * floats, layer.tile_rows * floats);
          } else {
            run_stage(layer.stages[k], k ? results[k - 1] : from, results[k], width, rows, prefetch);
          }
        }
        Plane d_here = more.next(positions, width);
        train_.normalize_back(d_out, memory(layer.u) + at, state(layer).ka.get(), state(layer).kb.get(),
                              state(layer).kc.get(), d_here.at, rows * width, positions);
        for (size_t k = n_stages - 1; k > 0; k--) {
          const TrainStage& stage = layer.stages[k];
          if (own) stage_weights(stage, slice, results[k - 1], d_here, width, rows);
          const Plane d_before = k == 1 ? to : more.next(stage.in.positions, width);
          stage_back(stage, d_here, d_before, width, rows, prefetch);
          d_here = d_before;
        }
      } else {
        for (int r = 0; r < rows; r++)
          train_.normalize_back(d_out + r * row, memory(layer.u) + at + r * row, state(layer).ka.get(),
                                state(layer).kb.get(), state(layer).kc.get(), to.at + r * to.row, width,
                                positions);
      }
      if (!own) continue;
      stage_weights(layer.stages[0], slice, from, to, width, rows);
      const int limit = rows_done(layer, r1, pad);
      if (limit > done && (input > 0 || dx)) {
        lead_back(layer, d, scratch.result.get(), done, limit, prefetch);
        take_result(layer, scratch.result.get(), slice, scratch, n, done, limit, dx);
      }
      done = std::max(done, limit);
    }
  }
}

void Pass::stage_back(const TrainStage& stage, Plane d, Plane to, int width, int rows, Prefetch& prefetch) {
  if (stage.work == StageWork::Conv)
    run_conv(stage.conv_back[0].conv, d, to, {}, width, 0, rows, &prefetch);
  else if (stage.work == StageWork::Pointwise)
    run_pointwise(stage.pointwise_back, d, to, {}, width, 0, rows, &prefetch);
  else
    fours(stage.back_weights->packed.weights.get(), stage.in.positions, d, to, width, rows);
}

void Pass::lead_back(const TrainLayer& layer, Plane d, float* result, int begin, int end,
                     Prefetch& prefetch) {
  const TrainStage& lead = layer.stages[0];
  const int positions = gradient_positions(layer), stride = lead.op.stride;
  const ptrdiff_t row = (ptrdiff_t)layer.in.width * positions;
  // Groups of one channel each do not reach padding behind the last.
  if ((stride > 1 && lead.op.kernel_h < 3) ||
      (order_of(layer) == Order::Inputs && lead.in.positions < positions))
    std::fill(result, result + (end - begin) * row, 0.0f);
  if (lead.work == StageWork::Pointwise) {
    const Plane to = {result - begin * row, stride * row, (ptrdiff_t)stride * positions};
    run_pointwise(lead.pointwise_back, d, to, {}, layer.out.width, (begin + stride - 1) / stride,
                  (end + stride - 1) / stride, &prefetch);
    return;
  }
  for (const BackPart& part : lead.conv_back) {
    if (part.conv.blocks.empty()) continue;
    const Plane to = {result + (part.row - begin) * row + (ptrdiff_t)part.column * positions, stride * row,
                      (ptrdiff_t)stride * positions};
    const int first = (begin - part.row + stride - 1) / stride, last = (end - part.row + stride - 1) / stride;
    if (last > first) run_conv(part.conv, d, to, {}, part.columns, first, last, &prefetch);
  }
}

void Pass::take_result(const TrainLayer& layer, const float* result, TrainSlice& slice, TrainScratch& scratch,
                       int64_t n, int begin, int end, float* dx) {
  const int input = layer.lead().input;
  const TrainValue& value = plan_.values[input];
  const Shape& shape = value.shape;
  if (layer.converts()) {
    reorder(result, gradient_positions(layer), layer.to_value, scratch.converted.get(),
            (ptrdiff_t)layer.to_value.size(), (ptrdiff_t)(end - begin) * shape.width);
    result = scratch.converted.get();
  }
  if (input == 0) {
    add_to_image(layer, result, dx + n * (ptrdiff_t)shape.channels * shape.height * shape.width, begin, end);
    return;
  }
  if (layer.last_of_input)
    return finish(input, layer.first_of_input, result, slice, scratch, n, begin, end - begin);
  const ptrdiff_t row = row_floats(shape, value.layout), count = (end - begin) * row;
  float* to = gradient(value) + n * image_floats(shape, value.layout) + begin * row;
  if (layer.first_of_input)
    std::copy(result, result + count, to);
  else
    train_.add(result, to, to, (end - begin) * shape.width, value.layout.positions);
}

}  // namespace igc
