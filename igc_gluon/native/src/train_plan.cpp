// train_plan.cpp - decides what is common to all layers: who waits for whom on the way back, and how much memory
// that takes.
#include <algorithm>

#include "train.h"

namespace igc {
namespace {

class TrainPlanner {
 public:
  TrainPlanner(TrainPlan& plan, TrainWeights& weights) : plan_(plan), weights_(weights) {}

  void plan() {
    for (TrainLayer& layer : plan_.layers) {
      layer.layout = relabeled(plan_.values[layer.own_value].layout,
                               inverse(permuted_labels(layer.out.channels, layer.last().reorder)));
      plan_layer(*plan_.kernels, weights_, layer, layer.input, input_gradient_layout(layer));
    }
    order_gradients();
    measure();
    share_memory();
  }

 private:
  // The gradient of the image is written in whole vectors.
  const Layout& input_gradient_layout(const TrainLayer& layer) {
    if (layer.converts() || layer.lead().input > 0) return layer.input;
    if (image_layout_.positions == 0)
      image_layout_ = plan_.values[0].layout.positions % 16 ? Layout::plain(plan_.shapes[0].channels)
                                                            : plan_.values[0].layout;
    return image_layout_;
  }

  // Backward runs through the layers in reverse. The last layer to reach a value finishes its gradient.
  void order_gradients() {
    for (int i = (int)plan_.layers.size() - 1; i >= 0; i--) {
      TrainLayer& layer = plan_.layers[i];
      const std::vector<int>& readers = plan_.values[layer.lead().input].readers;
      layer.first_of_input = readers.back() == i;
      layer.last_of_input = layer.stores_input = readers.front() == i;
    }
    for (TrainValue& value : plan_.values) value.kept = value.sum || !value.sums.empty();
    // Buffers by liveness; a chain works in place where a finished row is never read again.
    std::vector<int> free;
    auto take = [&](int v) {
      const TrainValue& value = plan_.values[v];
      const size_t size = image_floats(value.shape, value.layout);
      int buffer;
      if (free.empty()) {
        buffer = (int)plan_.gradients.size();
        plan_.gradients.push_back(0);
      } else {
        buffer = free.back();
        free.pop_back();
      }
      plan_.gradients[buffer] = std::max(plan_.gradients[buffer], size);
      plan_.values[v].gradient = buffer;
    };
    take((int)plan_.values.size() - 1);
    for (int i = (int)plan_.layers.size() - 1; i >= 0; i--) {
      const TrainLayer& layer = plan_.layers[i];
      const int from = layer.lead().input;
      const TrainValue &value = plan_.values[layer.value], &input = plan_.values[from];
      const bool in_place = layer.lead().stride == 1 && input.layout.positions == value.layout.positions;
      // A sum that adds the input as it is, is read element by element by whoever finishes the input.
      const int sum = input.sums.empty() ? -1 : input.sums[0];
      if (sum > 0 && sum != layer.value && last_use(sum) == i) free.push_back(plan_.values[sum].gradient);
      const bool done = last_use(layer.value) == i;
      if (done && in_place) free.push_back(value.gradient);
      if (from > 0 && input.gradient < 0) take(from);
      if (done && !in_place) free.push_back(value.gradient);
    }
  }

  // The last layer, going back, that reads the gradient of value v.
  int last_use(int v) const {
    int last = (int)plan_.layers.size();
    for (int i = 0; i < (int)plan_.layers.size(); i++)
      if (plan_.layers[i].value == v) last = std::min(last, i);
    const int shortcut = plan_.values[v].shortcut_value;
    if (shortcut > 0) last = std::min(last, plan_.values[shortcut].readers.front());
    return last;
  }

  void measure() {
    auto raise = [](size_t& to, size_t value) { to = std::max(to, value); };
    for (const TrainLayer& layer : plan_.layers) {
      const Layout& in = input_gradient_layout(layer);
      const size_t halo = layer.lead().kernel_h + 1, tile = (size_t)layer.tile_rows * layer.out.width;
      raise(plan_.x_floats, (layer.in.height + halo) * (layer.in.width + halo) * (size_t)in.positions);
      raise(plan_.d_floats,
            (layer.out.height + halo) * (layer.out.width + halo) * (size_t)layer.stages[0].out.positions);
      size_t middle = 0, du = 0, packed = 0;
      for (size_t k = 0; k < layer.stages.size(); k++) {
        const TrainStage& stage = layer.stages[k];
        packed += stage.weights ? stage.weights->floats() : 0;
        (k + 1 < layer.stages.size() ? middle : du) += tile * stage.out.positions;
        if (k > 0 && k + 1 < layer.stages.size()) du += tile * stage.out.positions;
      }
      raise(plan_.middle_floats, middle);
      raise(plan_.du_floats, du);
      raise(plan_.back_floats, (size_t)layer.in.height * layer.in.width * in.positions);
      raise(plan_.sum_floats, (size_t)std::max(layer.layout.positions, in.positions));
      raise(plan_.packed_floats, packed);
      raise(plan_.converted_floats, (size_t)layer.in.height * layer.in.width * layer.to_value.size());
      raise(plan_.sum_floats, layer.to_value.size());
    }
    // The scores' gradient is spread over one row of the last value, which in tiny images is more than any input.
    raise(plan_.back_floats, (size_t)plan_.values.back().shape.width * plan_.values.back().layout.positions);
    plan_.image_positions = positions_of(plan_.values[0].layout, plan_.shapes[0].channels);
    if (plan_.x_floats > ((size_t)1 << 31)) throw BadArgument("one image takes more than 2^31 floats");
  }

  void share_memory() {
    const auto take = [&](size_t floats) { return (plan_.memory_floats += floats) - floats; };
    for (TrainLayer& layer : plan_.layers) {
      layer.u = take(image_floats(layer.out, layer.layout));
      if (layer.keeps_middle) layer.kept = take(image_floats(layer.out, layer.stages[0].out));
    }
    for (TrainValue& value : plan_.values)
      if (value.kept) value.stored = take(image_floats(value.shape, value.layout));
    for (size_t& buffer : plan_.gradients) buffer = take(buffer);
  }

  TrainPlan& plan_;
  TrainWeights& weights_;
  Layout image_layout_;
};

}  // namespace

const TrainKernels& train_kernels_of(const Kernels& kernels) {
#ifdef IGC_X86
  if (&kernels == &avx512::kernels) return avx512::train_kernels;
  if (&kernels == &avx2::kernels) return avx2::train_kernels;
#endif
  (void)kernels;
  return portable::train_kernels;
}

TrainNet plan_training(const Kernels& kernels, const igc_op* ops, int64_t n_ops, const Shape& input) {
  TrainNet net;
  std::unique_ptr<TrainPlan> plan = check_training(ops, n_ops, input);
  plan->kernels = &kernels;
  plan->train = &train_kernels_of(kernels);
  TrainPlanner(*plan, net.weights).plan();
  net.plan = std::move(plan);
  return net;
}

}  // namespace igc
