// train_pass.cpp - memory and weights of a pass, and the values that layers read.
#include "train_pass.h"

namespace igc {
namespace {

constexpr int kSlicesPerThread = 4;  // so that a thread that is held up does not hold up the others
constexpr size_t kLargeWeights = (size_t)1 << 17;  // floats; from here on one slice for each thread
constexpr int kRowsWorthIt = 8;  // of the image, in a part: rows at its border are computed twice

}  // namespace

void Pass::reserve(int64_t batch) {
  space_.batch = batch;
  if (space_.layers.empty()) make_states();
  if (batch > space_.capacity || !space_.memory) {
    space_.memory.reset();
    space_.capacity = 0;
    space_.memory = make_floats(plan_.memory_floats * batch);
    space_.capacity = batch;
  }
  while ((int)space_.scratch.size() < team_)
    space_.scratch.push_back({make_floats(plan_.x_floats), make_floats(plan_.d_floats),
                              make_floats(plan_.middle_floats), make_floats(plan_.du_floats),
                              make_floats(plan_.back_floats), make_floats(plan_.converted_floats),
                              make_floats(3 * plan_.sum_floats)});
  const int per_thread = threads_ == 1 || plan_.packed_floats >= kLargeWeights ? 1 : kSlicesPerThread;
  n_slices_ = (int)std::min<int64_t>(batch, threads_ * per_thread);
  if (batch < threads_) {
    row_parts_ =
        std::max(1, std::min((int)((threads_ + batch - 1) / batch), plan_.shapes[0].height / kRowsWorthIt));
    n_slices_ *= row_parts_;
  }
  while ((int)space_.slices.size() < n_slices_) {
    TrainSlice slice;
    slice.sum.resize(plan_.sum_floats);
    slice.dot.resize(plan_.sum_floats);
    slice.dot2.resize(plan_.sum_floats);
    slice.shift = make_floats(plan_.sum_floats);
    slice.weights = make_floats(plan_.packed_floats);
    space_.slices.push_back(std::move(slice));
  }
}

void Pass::make_states() {
  std::vector<LayerState> states(plan_.layers.size());
  for (size_t i = 0; i < states.size(); i++) {
    LayerState& one = states[i];
    const int positions = plan_.layers[i].layout.positions;
    for (Floats* f : {&one.a, &one.b, &one.mean, &one.gamma, &one.ka, &one.kb, &one.kc})
      *f = make_floats(positions);
    one.variance.assign(positions, 0);
    if (plan_.layers[i].pool) std::fill_n(one.a.get(), positions, 1.0f);
  }
  space_.layers = std::move(states);
}

void Pass::fill(int index, bool first_reader, int64_t n, Plane to, int begin, int end, bool store) {
  const TrainValue& value = plan_.values[index];
  const Shape& shape = value.shape;
  if (value.producer < 0) {
    const ptrdiff_t image = (ptrdiff_t)shape.channels * shape.height * shape.width;
    pack_rows(x_ + n * image, shape.height, shape.width, value.layout, to, begin, end);
    return;
  }
  const TrainLayer& producer = plan_.layers[value.producer];
  const ptrdiff_t row = row_floats(shape, value.layout), image = n * image_floats(shape, value.layout);
  for (int r = begin; r < end; r++) {
    const ptrdiff_t at = image + r * row;
    float* y = to.at + r * to.row;
    if (value.kept && !first_reader) {
      std::copy(memory(value.stored) + at, memory(value.stored) + at + row, y);
      continue;
    }
    ActivateTask task = {memory(producer.u) + at,
                         state(producer).a.get(),
                         state(producer).b.get(),
                         nullptr,
                         nullptr,
                         nullptr,
                         y,
                         value.kept && store ? memory(value.stored) + at : nullptr,
                         shape.width,
                         value.layout.positions,
                         producer.last().activation};
    if (value.shortcut_layer >= 0) {
      const TrainLayer& shortcut = plan_.layers[value.shortcut_layer];
      task.r = memory(shortcut.u) + at;
      task.c = state(shortcut).a.get();
      task.d = state(shortcut).b.get();
    } else if (value.shortcut_value >= 0) {
      task.r = memory(plan_.values[value.shortcut_value].stored) + at;
    }
    train_.activate(task);
  }
}

void Pass::fill_input(const TrainLayer& layer, bool first_reader, TrainScratch& scratch, int64_t n, Plane to,
                      int begin, int end, bool store) {
  const int input = layer.lead().input;
  if (!layer.converts()) return fill(input, first_reader, n, to, begin, end, store);
  const Plane row = {scratch.converted.get(), 0, plan_.values[input].layout.positions};
  for (int r = begin; r < end; r++) {
    fill(input, first_reader, n, row, r, r + 1, store);
    reorder(row.at, row.pixel, layer.from_value, to.at + r * to.row, layer.input.positions, layer.in.width);
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
  const TrainValue& value = plan_.values[index];
  if (value.producer < 0) return;
  const ptrdiff_t floats = row_floats(value.shape, value.layout),
                  at = n * image_floats(value.shape, value.layout) + row * floats;
  if (value.kept && !first_reader) return prefetch.add(memory(value.stored) + at, rows * floats);
  prefetch.add(memory(plan_.layers[value.producer].u) + at, rows * floats);
  if (value.shortcut_layer >= 0)
    prefetch.add(memory(plan_.layers[value.shortcut_layer].u) + at, rows * floats);
  else if (value.shortcut_value >= 0)
    prefetch.add(memory(plan_.values[value.shortcut_value].stored) + at, rows * floats);
}

size_t bytes_of(const TrainNet& net) {
  const TrainPlan& plan = *net.plan;
  const TrainWorkspace& space = net.workspace;
  const size_t scratch = plan.x_floats + plan.d_floats + plan.middle_floats + plan.du_floats +
                         plan.back_floats + plan.converted_floats + 3 * plan.sum_floats,
               floats = plan.memory_floats * space.capacity + space.scratch.size() * scratch +
                        space.slices.size() * (plan.sum_floats + plan.packed_floats);
  return floats * sizeof(float) + net.weights.bytes();
}

void train_forward(TrainNet& net, const float* x, int64_t batch, const float* const* parameters,
                   float* const* running, float* y, int threads) {
  net.workspace.ready_for_backward = false;
  Pass pass(net, x, threads);
  pass.reserve(batch);
  pass.pack(parameters);
  for (const TrainLayer& layer : net.plan->layers)
    if (layer.pool)
      pass.pool_layer(layer);
    else
      pass.forward_layer(layer, parameters + layer.gamma_parameter(),
                         running ? running + layer.running : nullptr);
  pass.output(y);
  net.workspace.ready_for_backward = true;
}

void train_backward(TrainNet& net, const float* x, const float* dy, float* const* gradients, float* dx,
                    int threads) {
  const std::vector<TrainLayer>& layers = net.plan->layers;
  Pass pass(net, x, threads);
  pass.reserve(net.workspace.batch);
  pass.output_back(dy, gradients);
  for (size_t i = layers.size(); i-- > 0;)
    if (layers[i].pool)
      pass.pool_layer_back(layers[i], gradients, dx);
    else
      pass.backward_layer(layers[i], gradients, dx);
}

}  // namespace igc
