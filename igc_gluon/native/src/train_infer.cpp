// train_infer.cpp - inference with the parameters of training: the network folded for the planner of igc.h,
// kept as long as the parameters stay the same.
#include <cmath>
#include <cstring>
#include <numeric>

#include "train.h"

namespace igc {
namespace {

class Folding {
 public:
  Folding(const TrainNet& net, const float* const* parameters, const float* const* running)
      : net_(net), parameters_(parameters), running_(running), tensor_(net.values.size(), 0) {}

  std::unique_ptr<Net> fold() {
    for (size_t i = 0; i < net_.layers.size(); i++) add_layer((int)i);
    igc_op pool = op(IGC_MEAN_POOL, tensor_.back());
    ops_.push_back(pool);
    return plan_net(*net_.kernels, ops_.data(), (int64_t)ops_.size(), weights_.data(),
                    (int64_t)weights_.size(), net_.input.channels, net_.input.height, net_.input.width);
  }

 private:
  static igc_op op(int kind, int input) {
    igc_op result = {};
    result.kind = kind;
    result.input = input;
    result.residual = -1;
    result.groups = result.kernel_h = result.kernel_w = result.stride = 1;
    result.weight = result.weight2 = result.scale = result.bias = -1;
    return result;
  }

  int64_t put(const float* numbers, size_t count) {
    const int64_t at = (int64_t)weights_.size();
    weights_.insert(weights_.end(), numbers, numbers + count);
    return at;
  }

  int push(const igc_op& o) {
    ops_.push_back(o);
    return (int)ops_.size();
  }

  int permuted(int tensor, int groups) {
    igc_op o = op(IGC_PERMUTE, tensor);
    o.groups = groups;
    return push(o);
  }

  void add_layer(int i) {
    const TrainLayer& layer = net_.layers[i];
    const igc_layer& s = layer.spec;
    const float* const* p = parameters_ + layer.parameter;
    const float *gamma = p[layer.block ? 2 : 1], *beta = p[layer.block ? 3 : 2], *mean = running_[2 * i],
                *variance = running_[2 * i + 1];
    const bool plain_block = layer.block && s.secondary == s.channels / s.groups;
    igc_op o = op(plain_block ? IGC_BLOCK : IGC_CONV, tensor_[s.input]);
    o.channels = s.channels;
    o.groups = s.groups;
    o.kernel_h = o.kernel_w = s.kernel;
    o.pad_h = o.pad_w = s.kernel / 2;
    o.stride = s.stride;
    o.weight = put(p[0], layer.weight_size);
    // Channels as the last convolution numbers them; other blocks than those of igc.h permute after it.
    std::vector<int> channel(s.channels);
    std::iota(channel.begin(), channel.end(), 0);
    int residual = s.residual < 0 ? -1 : tensor_[s.residual];
    if (layer.block && !plain_block) {
      channel = branches_interleaved(s.channels, s.secondary);
      if (residual >= 0) residual = permuted(residual, s.channels / s.secondary);
      o = op(IGC_CONV, permuted(push(o), s.groups));
      o.channels = s.channels;
      o.groups = s.secondary;
      o.weight = put(p[1], layer.secondary_size);
    } else if (layer.block) {
      o.weight2 = put(p[1], layer.secondary_size);
    }
    std::vector<float> scale(s.channels), bias(s.channels);
    for (int c = 0; c < s.channels; c++) {
      const int f = channel[c];
      const double factor = gamma[f] / std::sqrt((double)variance[f] + s.epsilon);
      scale[c] = (float)factor;
      bias[c] = (float)(beta[f] - factor * mean[f]);
    }
    o.scale = put(scale.data(), scale.size());
    o.bias = put(bias.data(), bias.size());
    o.residual = residual;
    o.activation = s.activation;
    tensor_[i + 1] = push(o);
    if (layer.block && !plain_block) tensor_[i + 1] = permuted(tensor_[i + 1], s.secondary);
  }

  const TrainNet& net_;
  const float* const* parameters_;
  const float* const* running_;
  std::vector<int> tensor_;  // of each value
  std::vector<igc_op> ops_;
  std::vector<float> weights_;
};

}  // namespace

void train_infer(TrainNet& net, const float* x, int64_t batch, const float* const* parameters,
                 const float* const* running, float* y, int threads) {
  bool same = net.folded != nullptr;
  std::vector<float>& kept = net.folded_with;
  size_t at = 0;
  auto compare = [&](const float* numbers, size_t count) {
    if (!same)
      kept.insert(kept.end(), numbers, numbers + count);
    else if (std::memcmp(kept.data() + at, numbers, count * sizeof(float)) == 0)
      at += count;
    else
      same = false;
  };
  auto over_all = [&] {
    for (size_t i = 0; i < net.parameter_sizes.size(); i++) compare(parameters[i], net.parameter_sizes[i]);
    for (size_t i = 0; i < net.layers.size(); i++)
      for (int k = 0; k < 2; k++) compare(running[2 * i + k], net.layers[i].spec.channels);
  };
  if (same) over_all();
  if (!same) {
    net.folded.reset();
    kept.clear();
    over_all();
    net.folded = Folding(net, parameters, running).fold();
  }
  run_net(*net.folded, x, batch, y, threads);
}

}  // namespace igc
