// packing.cpp - fills what the kernels read with the values of weights.
#include "net.h"
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

void Repacked::pack(const float* first, size_t count, const float* second) {
  for (size_t k = 0; k < packing.weights.size(); k++) {
    const int32_t n = packing.weights[k];
    if (n >= 0) packed.weights[k] = (size_t)n < count ? first[n] : second[n - count];
  }
}

}  // namespace igc
