// train_infer.cpp - inference with the parameters of training: the network folded for the planner of igc.h,
// kept as long as the parameters stay the same.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "train.h"

namespace igc {
namespace {

constexpr size_t kIdleBytes = 8 << 20;  // of plans and workspaces for other sizes than the last one

class Folding {
 public:
  // numbers: the parameters, then the moving statistics; gets the scales and biases that they are folded to.
  Folding(const TrainNet& net, std::vector<float>& numbers)
      : net_(net), numbers_(numbers), tensor_(net.values.size(), 0) {
    for (size_t size : net.parameter_sizes) {
      parameter_.push_back(at_);
      at_ += (int64_t)size;
    }
  }

  std::vector<igc_op> fold() {
    for (const TrainLayer& layer : net_.layers) add_layer(layer);
    if (!net_.maps) push(op(IGC_MEAN_POOL, tensor_.back()));
    return std::move(ops_);
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

  int push(const igc_op& o) {
    ops_.push_back(o);
    return (int)ops_.size();
  }

  int permuted(int tensor, int groups) {
    if (groups == 1) return tensor;
    igc_op o = op(IGC_PERMUTE, tensor);
    o.groups = groups;
    return push(o);
  }

  // `groups` branches were permuted; 1: not.
  int permuted_back(int tensor, int channels, int groups) {
    return groups == 1 ? tensor : permuted(tensor, channels / groups);
  }

  igc_op convolution(int kind, int input, const TrainStage& stage) {
    const igc_layer& s = stage.spec;
    igc_op o = op(kind, input);
    o.channels = s.channels;
    o.groups = s.groups;
    o.kernel_h = o.kernel_w = s.kernel;
    o.pad_h = o.pad_w = s.kernel / 2;
    o.stride = s.stride;
    o.weight = parameter_[stage.parameter];
    return o;
  }

  // Whether stages k and k + 1 are what igc.h knows as an IGC block.
  static bool is_block(const TrainLayer& layer, size_t k) {
    if (k + 2 != layer.stages.size()) return false;
    const igc_layer &p = layer.stages[k].spec, &s = layer.stages[k + 1].spec;
    return p.groups > 1 && p.permute == p.groups && s.groups == p.channels / p.groups &&
           s.channels == p.channels && s.permute == s.groups;
  }

  void add_layer(const TrainLayer& layer) {
    const igc_layer& s = layer.last();
    int tensor = tensor_[layer.lead().input];
    if (layer.pool) {
      igc_op pool = op(IGC_MAX_POOL, tensor);
      pool.kernel_h = pool.kernel_w = s.kernel;
      pool.pad_h = pool.pad_w = s.kernel / 2;
      pool.stride = s.stride;
      tensor_[layer.own_value] = push(pool);
      return;
    }
    igc_op o = {};
    // Number in the normalization of each channel of the last operation.
    Labels normalized = normalized_labels(layer);
    for (size_t k = 0; k < layer.stages.size(); k++) {
      const bool block = is_block(layer, k);
      o = convolution(block ? IGC_BLOCK : IGC_CONV, tensor, layer.stages[k]);
      if (block) {  // which permutes by itself
        k++;
        o.weight2 = parameter_[layer.stages[k].parameter];
        std::iota(normalized.begin(), normalized.end(), 0);
      }
      if (k + 1 < layer.stages.size()) tensor = permuted(push(o), layer.stages[k].spec.permute);
    }
    o.scale = (int64_t)numbers_.size();
    o.bias = o.scale + s.channels;
    numbers_.resize(numbers_.size() + 2 * (size_t)s.channels);
    const float *gamma = &numbers_[parameter_[layer.gamma_parameter()]], *beta = gamma + s.channels,
                *mean = &numbers_[at_], *variance = mean + s.channels;
    at_ += 2 * s.channels;
    for (int c = 0; c < s.channels; c++) {
      const int f = normalized[c];
      const double factor = gamma[f] / std::sqrt((double)variance[f] + s.epsilon);
      numbers_[o.scale + c] = (float)factor;
      numbers_[o.bias + c] = (float)(beta[f] - factor * mean[f]);
    }
    o.activation = s.activation;
    if (s.residual >= 0) {
      o.residual = permuted_back(tensor_[s.residual], s.channels, s.reorder);
      if (o.kind != IGC_BLOCK) o.residual = permuted_back(o.residual, s.channels, s.permute);
    }
    int result = push(o);
    if (o.kind != IGC_BLOCK) result = permuted(result, s.permute);
    tensor_[layer.own_value] = permuted(result, s.reorder);
  }

  const TrainNet& net_;
  std::vector<float>& numbers_;
  std::vector<int64_t> parameter_;  // where each begins
  int64_t at_ = 0;                  // where the next layer's moving statistics begin
  std::vector<int> tensor_;         // of each value
  std::vector<igc_op> ops_;
};

}  // namespace

void Inference::run(const TrainNet& net, const float* x, int64_t batch, int height, int width,
                    const float* const* parameters, const float* const* running, float* y, int threads) {
  fold(net, parameters, running);
  run_net(net_of(net, height, width), x, batch, y, threads);
}

void Inference::fold(const TrainNet& net, const float* const* parameters, const float* const* running) {
  bool same = !ops_.empty();
  size_t at = 0;
  auto compare = [&](const float* numbers, size_t count) {
    if (!same)
      numbers_.insert(numbers_.end(), numbers, numbers + count);
    else if (std::memcmp(numbers_.data() + at, numbers, count * sizeof(float)) == 0)
      at += count;
    else
      same = false;
  };
  auto over_all = [&] {
    for (size_t i = 0; i < net.parameter_sizes.size(); i++) compare(parameters[i], net.parameter_sizes[i]);
    for (const TrainLayer& layer : net.layers)
      for (int k = 0; k < (layer.pool ? 0 : 2); k++) compare(running[layer.running + k], layer.out.channels);
  };
  if (same) over_all();
  if (same) return;
  nets_.clear();
  ops_.clear();
  numbers_.clear();
  over_all();
  ops_ = Folding(net, numbers_).fold();
}

// The net for a size, the first in the list from now on.
Net& Inference::net_of(const TrainNet& net, int height, int width) {
  const auto known = std::find_if(nets_.begin(), nets_.end(), [&](const std::unique_ptr<Net>& one) {
    return one->plan->height == height && one->plan->width == width;
  });
  if (known != nets_.end()) {
    nets_.splice(nets_.begin(), nets_, known);
    return *nets_.front();
  }
  auto made =
      std::make_unique<Net>(plan_net(*net.kernels, ops_.data(), (int64_t)ops_.size(), numbers_.data(),
                                     (int64_t)numbers_.size(), net.input.channels, height, width, weights_));
  size_t bytes = 0;
  for (auto it = nets_.begin(); it != nets_.end();) {
    bytes += (*it)->bytes();
    it = bytes > kIdleBytes ? nets_.erase(it) : std::next(it);
  }
  nets_.push_front(std::move(made));
  return *nets_.front();
}

size_t Inference::bytes() const {
  size_t bytes = numbers_.size() * sizeof(float) + weights_.bytes();
  for (const auto& net : nets_) bytes += net->bytes();
  return bytes;
}

}  // namespace igc
