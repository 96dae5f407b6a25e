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
    for (const TrainLayer& layer : net_.layers) add_layer(layer);
    if (!net_.maps) push(op(IGC_MEAN_POOL, tensor_.back()));
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
    o.weight = put(parameters_[stage.parameter], stage.weight_size);
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
    // Number in the normalisation of each channel of the last operation.
    std::vector<int> normalised = normalised_labels(layer);
    for (size_t k = 0; k < layer.stages.size(); k++) {
      const bool block = is_block(layer, k);
      o = convolution(block ? IGC_BLOCK : IGC_CONV, tensor, layer.stages[k]);
      if (block) {  // which permutes by itself
        k++;
        o.weight2 = put(parameters_[layer.stages[k].parameter], layer.stages[k].weight_size);
        std::iota(normalised.begin(), normalised.end(), 0);
      }
      if (k + 1 < layer.stages.size()) tensor = permuted(push(o), layer.stages[k].spec.permute);
    }
    const float *gamma = parameters_[layer.gamma_parameter()],
                *beta = parameters_[layer.gamma_parameter() + 1], *mean = running_[layer.running], *variance = running_[layer.running + 1];
    std::vector<float> scale(s.channels), bias(s.channels);
    for (int c = 0; c < s.channels; c++) {
      const int f = normalised[c];
      const double factor = gamma[f] / std::sqrt((double)variance[f] + s.epsilon);
      scale[c] = (float)factor;
      bias[c] = (float)(beta[f] - factor * mean[f]);
    }
    o.scale = put(scale.data(), scale.size());
    o.bias = put(bias.data(), bias.size());
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
    for (const TrainLayer& layer : net.layers)
      for (int k = 0; k < (layer.pool ? 0 : 2); k++) compare(running[layer.running + k], layer.out.channels);
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
