// packing.cpp - fills what the kernels read with the values of weights.
#include "net.h"
#include "thread_pool.h"
#include "train.h"

namespace igc {

Packed gathered(const Packing& packing, const Filter& filter, const Parameters& parameters,
                const Filter* secondary, const Parameters& mixing) {
  Packed packed(packing);
  const int32_t own = filter.size();
  for (size_t k = 0; k < packing.weights.size(); k++) {
    const int32_t n = packing.weights[k];
    packed.weights[k] = n < own ? parameters.weight(filter, n) : mixing.weight(*secondary, n - own);
  }
  for (size_t k = 0; k < packing.bias.size(); k++)
    packed.bias[k] = (secondary ? mixing : parameters).bias_of(packing.bias[k]);
  return packed;
}

const Repacked* TrainWeights::add(Packing packing, int first, size_t count, int second) {
  Packed packed(packing);
  all_.push_back({std::move(packing), std::move(packed), first, second, count});
  return &all_.back();
}

void TrainWeights::pack(const float* const* parameters, int team) {
  parallel(team, (int64_t)all_.size(), [&](int, int64_t i) {
    Repacked& one = all_[i];
    const float *const first = parameters[one.first], *const second = parameters[one.second];
    for (size_t k = 0; k < one.floats(); k++) {
      const int32_t n = one.packing.weights[k];
      if (n >= 0) one.packed.weights[k] = (size_t)n < one.count ? first[n] : second[n - one.count];
    }
  });
}

size_t TrainWeights::bytes() const {
  size_t bytes = 0;
  for (const Repacked& one : all_) bytes += one.packed.bytes + one.floats() * sizeof(int32_t);
  return bytes;
}

}  // namespace igc
