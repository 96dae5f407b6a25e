// convolution.h - a convolution made ready for the kernels: blocks of output vectors with their packed
// weights.
#pragma once
#include <vector>

#include "kernels/kernels.h"
#include "layout.h"
#include "memory.h"

namespace igc {

// Weights as the caller gives them and what is folded into them.
//   ordinary: (outputs, inputs / groups, kernel_h, kernel_w);
//   secondary of an IGC block: groups = M partitions and primary = L. Channels are numbered l * M + m on both
//   sides, as before the first permutation and after the second one; the weights are (M * L, L), row m * L +
//   l.
struct Filter {
  int outputs = 0, inputs = 0, groups = 1, kernel_h = 1, kernel_w = 1;
  int primary = 0;
  const float* weights = nullptr;
  const float* scale = nullptr;  // [outputs] or null
  const float* bias = nullptr;   // [outputs] or null

  int group_of_output(int output) const { return primary ? output % groups : output / (outputs / groups); }
  int group_of_input(int input) const { return primary ? input % groups : input / (inputs / groups); }
  // The weight between two channels: 0 across groups and where one is -1 (padding).
  float at(int output, int input, int dy, int dx) const {
    if (output < 0 || input < 0 || group_of_output(output) != group_of_input(input)) return 0;
    const size_t per_group = inputs / groups;
    const size_t row = primary ? (size_t)(output % groups) * primary + output / groups : (size_t)output;
    const size_t column = primary ? input / groups : input % per_group;
    return weights[((row * per_group + column) * kernel_h + dy) * kernel_w + dx] *
           (scale ? scale[output] : 1.0f);
  }
  float bias_of(int output) const { return output >= 0 && bias ? bias[output] : 0.0f; }
};

// A group convolution between layouts with the same chunks, or a dense one between any (conv.cpp).
struct ConvPlan {
  struct Block {
    ConvKernel kernel;
    int x_offset, y_offset, inputs, kernel_w;
    bool first, last;  // of the blocks that add up to the same outputs
    const float *weights, *bias, *secondary;
    int floats;  // of weights
  };
  std::vector<Block> blocks;
  int kernel_h = 1, stride = 1, pad_h = 0, pad_w = 0;
  int activation = kLinear;
  size_t weight_bytes = 0;
};

// A 1x1 product between any two layouts (mix.cpp).
struct MixPlan {
  struct Block {
    MixKernel kernel;
    int first_segment, n_segments, n;
    int32_t offset[4];
    const float *weights, *bias;
    int split;   // S of mix.cpp
    int floats;  // of weights
  };
  std::vector<Segment> segments;
  std::vector<Block> blocks;
  int stride = 1;
  int activation = kLinear;
  size_t weight_bytes = 0;
};

// Larger weights do not stay in L2 beside what passes through it: those of the next block are fetched while block i is
// in use.
constexpr size_t kBeyondL2 = 512 << 10;
template <class Plan>
Region weights_after(const Plan& plan, size_t i) {
  if (plan.weight_bytes <= kBeyondL2 || i + 1 == plan.blocks.size()) return {};
  const auto& next = plan.blocks[i + 1];
  return {next.weights, next.weights + next.floats};
}

// The size of the next block when `left` things are cut into the fewest blocks of at most `most`, as equal as
// can be.
inline int balanced(int left, int most) {
  const int blocks = (left + most - 1) / most;
  return (left + blocks - 1) / blocks;
}

// `secondary`: the filter of L <= 4 that follows in registers, or null. With it, only its scale and bias
// count.
ConvPlan plan_group_conv(const Kernels& kernels, Arena& arena, const Filter& filter, const Filter* secondary,
                         const Layout& in, const Layout& out, int stride, int width);
ConvPlan plan_dense_conv(const Kernels& kernels, Arena& arena, const Filter& filter, const Layout& in,
                         const Layout& out, int stride, int width);
MixPlan plan_mix(const Kernels& kernels, Arena& arena, const Filter& filter, const Layout& in,
                 const Layout& out, int stride, int width);

// What plan_mix would do for one pixel, in multiply-adds of vectors.
size_t mix_work(const Kernels& kernels, const Filter& filter, const Layout& in, const Layout& out);

// Rows [begin, end) of the output. x, y, residual: pixel (0, 0); residual.at may be null.
void run_conv(const ConvPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
              Coming* coming = nullptr);
void run_mix(const MixPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
             Coming* coming = nullptr);

}  // namespace igc
