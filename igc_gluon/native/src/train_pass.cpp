// train_pass.cpp - memory and weights of a pass, and the values that layers read.
#include "train_pass.h"

namespace igc {
namespace {

constexpr int kSlicesPerThread = 4;  // so that a thread that is held up does not hold up the others
constexpr size_t kLargeWeights = (size_t)1 << 17;  // floats; from here on one slice for each thread
constexpr int kRowsWorthIt = 8;  // of the image, in a part: rows at its border are computed twice

}  // namespace

void Pass::reserve(int64_t batch) {
  net_.batch = batch;
  if (batch > net_.capacity || !net_.memory) {
    net_.memory.reset();
    net_.memory_floats = 0;
    net_.capacity = 0;
    size_t total = 0;
    for (const TrainLayer& layer : net_.layers)
      total += image_floats(layer.out, layer.layout) +
               (layer.keeps_middle ? image_floats(layer.out, layer.stages[0].out) : 0);
    for (const TrainValue& value : net_.values)
      total += value.kept ? image_floats(value.shape, value.layout) : 0;
    for (size_t floats : net_.gradient_floats) total += floats;
    net_.memory = make_floats(total * batch);
    net_.memory_floats = total * batch;
    float* at = net_.memory.get();
    auto take = [&](size_t floats) {
      float* result = at;
      at += floats * batch;
      return result;
    };
    for (TrainLayer& layer : net_.layers) {
      layer.u = take(image_floats(layer.out, layer.layout));
      if (layer.keeps_middle) layer.kept = take(image_floats(layer.out, layer.stages[0].out));
    }
    for (TrainValue& value : net_.values)
      if (value.kept) value.stored = take(image_floats(value.shape, value.layout));
    net_.gradient_memory.clear();
    for (size_t floats : net_.gradient_floats) net_.gradient_memory.push_back(take(floats));
    net_.capacity = batch;
  }
  while ((int)net_.scratch.size() < team_)
    net_.scratch.push_back({make_floats(net_.x_floats), make_floats(net_.d_floats),
                            make_floats(net_.middle_floats), make_floats(net_.du_floats),
                            make_floats(net_.back_floats), make_floats(net_.converted_floats),
                            make_floats(3 * net_.sum_floats)});
  const int per_thread = threads_ == 1 || net_.packed_floats >= kLargeWeights ? 1 : kSlicesPerThread;
  n_slices_ = (int)std::min<int64_t>(batch, threads_ * per_thread);
  if (batch < threads_) {
    row_parts_ =
        std::max(1, std::min((int)((threads_ + batch - 1) / batch), net_.shapes[0].height / kRowsWorthIt));
    n_slices_ *= row_parts_;
  }
  while ((int)net_.slices.size() < n_slices_) {
    TrainSlice slice;
    slice.sum.resize(net_.sum_floats);
    slice.dot.resize(net_.sum_floats);
    slice.dot2.resize(net_.sum_floats);
    slice.shift = make_floats(net_.sum_floats);
    slice.weights = make_floats(net_.packed_floats);
    net_.slices.push_back(std::move(slice));
  }
}

void Pass::pack(const float* const* parameters) {
  parallel(team_, net_.layers.size(), [&](int, int64_t i) {
    TrainLayer& layer = net_.layers[i];
    if (layer.pool) return;
    for (TrainStage& stage : layer.stages) {
      const auto pack = [&](Repacked& weights) {
        weights.pack(parameters[stage.parameter], stage.weight_size, nullptr);
      };
      pack(stage.weights);
      pack(stage.back_weights);
      for (BackPart& part : stage.conv_back) pack(part.weights);
    }
    layer.whole_weights.pack(parameters[layer.stages[0].parameter], layer.stages[0].weight_size,
                             parameters[layer.stages.back().parameter]);
    const float* gamma = parameters[layer.gamma_parameter()];
    for (int k = 0; k < layer.layout.positions; k++)
      if (layer.layout.channel_at[k] >= 0) layer.gamma[k] = gamma[layer.layout.channel_at[k]];
  });
}

void Pass::fill(int index, bool first_reader, int64_t n, Plane to, int begin, int end, bool store) {
  const TrainValue& value = net_.values[index];
  const Shape& shape = value.shape;
  if (value.producer < 0) {
    const ptrdiff_t image = (ptrdiff_t)shape.channels * shape.height * shape.width;
    pack_rows(x_ + n * image, shape.height, shape.width, value.layout, to, begin, end);
    return;
  }
  const TrainLayer& producer = net_.layers[value.producer];
  const ptrdiff_t row = row_floats(shape, value.layout), image = n * image_floats(shape, value.layout);
  for (int r = begin; r < end; r++) {
    const ptrdiff_t at = image + r * row;
    float* y = to.at + r * to.row;
    if (value.kept && !first_reader) {
      std::copy(value.stored + at, value.stored + at + row, y);
      continue;
    }
    ActivateTask task = {producer.u + at,
                         producer.a.get(),
                         producer.b.get(),
                         nullptr,
                         nullptr,
                         nullptr,
                         y,
                         value.kept && store ? value.stored + at : nullptr,
                         shape.width,
                         value.layout.positions,
                         producer.last().activation};
    if (value.shortcut_layer >= 0) {
      const TrainLayer& shortcut = net_.layers[value.shortcut_layer];
      task.r = shortcut.u + at;
      task.c = shortcut.a.get();
      task.d = shortcut.b.get();
    } else if (value.shortcut_value >= 0) {
      task.r = net_.values[value.shortcut_value].stored + at;
    }
    train_.activate(task);
  }
}

void Pass::fill_input(const TrainLayer& layer, bool first_reader, TrainScratch& scratch, int64_t n, Plane to,
                      int begin, int end, bool store) {
  const int input = layer.lead().input;
  if (!layer.converts()) return fill(input, first_reader, n, to, begin, end, store);
  const Plane row = {scratch.converted.get(), 0, net_.values[input].layout.positions};
  for (int r = begin; r < end; r++) {
    fill(input, first_reader, n, row, r, r + 1, store);
    reorder(row.at, row.pixel, layer.from_value, to.at + r * to.row, layer.in.width);
  }
}

void Pass::fill_own(const TrainLayer& layer, TrainScratch& scratch, int64_t n, Plane to, int begin, int end,
                    int own, int own_end) {
  const int first = std::min(std::max(begin, own), end), last = std::max(first, std::min(end, own_end));
  const bool stores = layer.stores_input;
  if (first > begin) fill_input(layer, stores, scratch, n, to, begin, first, false);
  if (last > first) fill_input(layer, stores, scratch, n, to, first, last);
  if (end > last) fill_input(layer, stores, scratch, n, to, last, end, false);
}

void Pass::prefetch_value(Prefetch& prefetch, int index, bool first_reader, int64_t n, int row,
                          int rows) const {
  const TrainValue& value = net_.values[index];
  if (value.producer < 0) return;
  const ptrdiff_t floats = row_floats(value.shape, value.layout),
                  at = n * image_floats(value.shape, value.layout) + row * floats;
  if (value.kept && !first_reader) return prefetch.add(value.stored + at, rows * floats);
  prefetch.add(net_.layers[value.producer].u + at, rows * floats);
  if (value.shortcut_layer >= 0)
    prefetch.add(net_.layers[value.shortcut_layer].u + at, rows * floats);
  else if (value.shortcut_value >= 0)
    prefetch.add(net_.values[value.shortcut_value].stored + at, rows * floats);
}

size_t bytes_of(const TrainNet& net) {
  size_t floats = net.memory_floats;
  floats += net.scratch.size() * (net.x_floats + net.d_floats + net.middle_floats + net.du_floats +
                                  net.back_floats + net.converted_floats + 3 * net.sum_floats);
  floats += net.slices.size() * (net.sum_floats + net.packed_floats);
  size_t bytes = floats * sizeof(float);
  for (const TrainLayer& layer : net.layers) {
    bytes += layer.whole_weights.bytes();
    for (const TrainStage& stage : layer.stages) {
      bytes += stage.weights.bytes() + stage.back_weights.bytes();
      for (const BackPart& part : stage.conv_back) bytes += part.weights.bytes();
    }
  }
  return bytes;
}

void train_forward(TrainNet& net, const float* x, int64_t batch, const float* const* parameters,
                   float* const* running, float* y, int threads) {
  net.ready_for_backward = false;
  Pass pass(net, x, threads);
  pass.reserve(batch);
  pass.pack(parameters);
  for (TrainLayer& layer : net.layers)
    if (layer.pool)
      pass.pool_layer(layer);
    else
      pass.forward_layer(layer, parameters[layer.gamma_parameter() + 1],
                         running ? running[layer.running] : nullptr,
                         running ? running[layer.running + 1] : nullptr);
  pass.output(y);
  net.ready_for_backward = true;
}

void train_backward(TrainNet& net, const float* x, const float* dy, float* const* gradients, float* dx,
                    int threads) {
  Pass pass(net, x, threads);
  pass.reserve(net.batch);
  pass.output_back(dy, gradients);
  for (size_t i = net.layers.size(); i-- > 0;)
    if (net.layers[i].pool)
      pass.pool_layer_back(net.layers[i], gradients, dx);
    else
      pass.backward_layer(net.layers[i], gradients, dx);
}

}  // namespace igc
