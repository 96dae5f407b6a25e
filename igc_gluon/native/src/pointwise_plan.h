// pointwise_plan.h - how 1x1 products are cut up, of floats (pointwise_plan.cpp) as of bytes and bfloat16 (reduced_convolution.cpp).
#pragma once
#include <vector>

#include "convolution.h"

namespace igc {

// A run of output positions whose channels all read the same groups of inputs.
struct Unit {
  int offset, split;        // split: S of pointwise.cpp; 16 / S positions
  std::vector<int> groups;  // sorted
  bool operator<(const Unit& other) const {
    return split != other.split     ? split < other.split
           : groups != other.groups ? groups < other.groups
                                    : offset < other.offset;
  }
  bool shares(const Unit& other) const { return split == other.split && groups == other.groups; }
};

// Those that share inputs follow one another. `most`: units that the kernel takes at once.
std::vector<Unit> sorted_units(const Filter& filter, const Layout& out, int most);
// How many units, from `first` on, the kernel takes at once.
int units_of_block(const std::vector<Unit>& units, size_t first, int most);
// The input positions of these groups, as runs of multiples of `step`.
std::vector<Segment> find_segments(const Filter& filter, const Layout& in, const std::vector<int>& groups,
                                   int step);

}  // namespace igc
