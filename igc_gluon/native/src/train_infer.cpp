// train_infer.cpp - inference with the parameters of training: the network folded for the planner of igc.h,
// kept as long as the parameters stay the same.
#include <algorithm>
#include <cstring>

#include "train.h"

namespace igc {
namespace {

constexpr size_t kIdleBytes = 8 << 20;  // of plans and workspaces for other sizes than the last one

}  // namespace

void Inference::run(const TrainPlan& plan, const float* x, int64_t batch, int height, int width,
                    const float* const* parameters, const float* const* running, float* y, int threads) {
  fold(plan, parameters, running);
  run_net(&net_of(plan, height, width), x, batch, y, threads);
}

void Inference::fold(const TrainPlan& plan, const float* const* parameters, const float* const* running) {
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
    for (size_t i = 0; i < plan.parameter_sizes.size(); i++) compare(parameters[i], plan.parameter_sizes[i]);
    for (size_t i = 0; i < plan.moving_sizes.size(); i++) compare(running[i], plan.moving_sizes[i]);
  };
  if (same) over_all();
  if (same) return;
  nets_.clear();
  ops_.clear();
  numbers_.clear();
  over_all();
  ops_ = folded(plan.ops, plan.shapes, numbers_);
}

// The net for a size, the first in the list from now on.
Net& Inference::net_of(const TrainPlan& plan, int height, int width) {
  const auto known = std::find_if(nets_.begin(), nets_.end(), [&](const std::unique_ptr<Net>& one) {
    return one->plan->height == height && one->plan->width == width;
  });
  if (known != nets_.end()) {
    nets_.splice(nets_.begin(), nets_, known);
    return *nets_.front();
  }
  auto made = std::make_unique<Net>(plan_net(*plan.kernels, ops_.data(), (int64_t)ops_.size(),
                                             numbers_.data(), (int64_t)numbers_.size(),
                                             plan.shapes[0].channels, height, width, weights_));
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
