// convolution.h - a convolution made ready for the kernels: blocks of output vectors with their packed
// weights.
#pragma once
#include <vector>

#include "kernels/kernels.h"
#include "layout.h"
#include "memory.h"

namespace igc {

// How the weights of a convolution are numbered and which channels each joins.
//   ordinary: (outputs, inputs / groups, kernel_h, kernel_w);
//   secondary of an IGC block: groups = M partitions and primary = L. Channels are numbered l * M + m on both
//   sides, as before the first permutation and after the second one; the weights are (M * L, L), row m * L +
//   l;
//   turned round: what leads gradients back through a convolution, whose outputs are its inputs here, at the taps
//   `rows` and `columns`. Weights have the numbers that they have there.
struct Filter {
  int outputs = 0, inputs = 0, groups = 1, kernel_h = 1, kernel_w = 1;
  int primary = 0;
  int turned = 0;  // the kernel of the convolution that is turned round, 0: none
  std::vector<int> rows = {}, columns = {};

  int group_of_output(int output) const { return primary ? output % groups : output / (outputs / groups); }
  int group_of_input(int input) const { return primary ? input % groups : input / (inputs / groups); }
  int32_t size() const { return outputs * (inputs / groups) * kernel_h * kernel_w; }
  // The number of the weight between two channels, -1 across groups and where one is -1 (padding).
  int32_t number(int output, int input, int dy, int dx) const {
    if (output < 0 || input < 0 || group_of_output(output) != group_of_input(input)) return -1;
    const int per_output = outputs / groups, per_input = inputs / groups;
    if (turned)
      return ((input * per_output + output % per_output) * turned + rows[dy]) * turned + columns[dx];
    const int row = primary ? output % groups * primary + output / groups : output;
    const int column = primary ? input / groups : input % per_input;
    return ((row * per_input + column) * kernel_h + dy) * kernel_w + dx;
  }
  // The channels that a weight joins; not of what is turned round.
  int output_of(int32_t number) const {
    const int row = number / (inputs / groups * kernel_h * kernel_w);
    return primary ? row % primary * groups + row / primary : row;
  }
  int input_of(int32_t number) const {
    const int column = number / (kernel_h * kernel_w) % (inputs / groups),
              group = group_of_output(output_of(number));
    return primary ? column * groups + group : group * (inputs / groups) + column;
  }
};

// The values of a filter's weights, and what is folded into them.
struct Parameters {
  const float* weights = nullptr;
  const float* scale = nullptr;  // [outputs] or null
  const float* bias = nullptr;   // [outputs] or null

  float weight(const Filter& filter, int32_t number) const {
    return number < 0 ? 0 : weights[number] * (scale ? scale[filter.output_of(number)] : 1.0f);
  }
  float bias_of(int output) const { return output >= 0 && bias ? bias[output] : 0.0f; }
};

// Which weight lies at each place of what the kernels read: inference gathers through it once, training every step.
struct Packing {
  std::vector<int32_t>
      weights;                // their numbers, those of a secondary in registers behind the first's; -1: zero
  std::vector<int32_t> bias;  // channels; -1: zero
};

// Packed weights and biases of a plan.
struct Packed {
  Floats weights, bias;
  size_t bytes = 0;
  Packed() = default;
  explicit Packed(const Packing& packing)  // zeros
      : weights(make_floats(packing.weights.size() + kPrefetchedBeyond)),
        bias(make_floats(packing.bias.size())),
        bytes((packing.weights.size() + kPrefetchedBeyond + packing.bias.size()) * sizeof(float)) {}
  static constexpr size_t kPrefetchedBeyond = 1024;  // kernels prefetch what lies behind the last
};

// A group convolution between layouts with the same chunks, or a dense one between any (conv.cpp).
struct ConvPlan {
  struct Block {
    ConvKernel kernel;
    int w, vectors;  // of the chunk; of outputs
    int x_offset, y_offset, inputs;
    bool first, last;           // of the blocks that add up to the same outputs
    size_t weights, secondary;  // where they begin in what is packed
    size_t floats;              // of weights
    ptrdiff_t bias;             // -1: zeros
  };
  std::vector<Block> blocks;
  int kernel_h = 1, kernel_w = 1, stride = 1, pad_h = 0, pad_w = 0;
  bool mixes = false;  // with a secondary in registers
  int activation = kLinear;
  size_t weight_bytes = 0;                          // without the secondary
  const float *weights = nullptr, *bias = nullptr;  // packed
};

// A 1x1 product between any two layouts (pointwise.cpp).
struct PointwisePlan {
  struct Block {
    PointwiseKernel kernel;
    int first_segment, n_segments, n;
    int32_t offset[4];
    int split;               // S of pointwise.cpp
    size_t weights, floats;  // where they begin in what is packed, and how many
    ptrdiff_t bias;
  };
  std::vector<Segment> segments;
  std::vector<Block> blocks;
  int stride = 1;
  int activation = kLinear;
  size_t weight_bytes = 0;
  const float *weights = nullptr, *bias = nullptr;  // packed
};

// Larger weights do not stay in L2 beside what passes through it: those of the next block are fetched while block i is
// in use.
constexpr size_t kBeyondL2 = 512 << 10;
template <class Plan>
Region weights_after(const Plan& plan, size_t i) {
  if (plan.weight_bytes <= kBeyondL2 || i + 1 == plan.blocks.size()) return {};
  const float* const next = plan.weights + plan.blocks[i + 1].weights;
  return {next, next + plan.blocks[i + 1].floats};
}

// The size of the next block when `left` things are cut into the fewest blocks of at most `most`, as equal as
// can be.
inline int balanced(int left, int most) {
  const int blocks = (left + most - 1) / most;
  return (left + blocks - 1) / blocks;
}

// `mixes`: a secondary of L <= 4 follows in registers.
ConvPlan plan_group_conv(const Kernels& kernels, const Filter& filter, bool mixes, const Layout& in,
                         const Layout& out, int stride, int width);
ConvPlan plan_dense_conv(const Kernels& kernels, const Filter& filter, const Layout& in, const Layout& out,
                         int stride, int width);
PointwisePlan plan_pointwise(const Kernels& kernels, const Filter& filter, const Layout& in,
                             const Layout& out, int stride, int width);

// `secondary`: of a plan that mixes, else null.
Packing packing_of(const ConvPlan& plan, const Filter& filter, const Layout& in, const Layout& out,
                   const Filter* secondary = nullptr);
Packing packing_of(const PointwisePlan& plan, const Filter& filter, const Layout& in, const Layout& out,
                   const Filter* secondary = nullptr);

// The values that a packing asks for.
Packed gathered(const Packing& packing, const Filter& filter, const Parameters& parameters,
                const Filter* secondary = nullptr, const Parameters& mixing = {});

// What plan_pointwise would do for one pixel, in multiply-adds of vectors.
size_t pointwise_work(const Kernels& kernels, const Filter& filter, const Layout& in, const Layout& out);

// Rows [begin, end) of the output. x, y, residual: pixel (0, 0); residual.at may be null.
void run_conv(const ConvPlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
              Prefetch* prefetch = nullptr);
void run_pointwise(const PointwisePlan& plan, Plane x, Plane y, Plane residual, int width, int begin, int end,
                   Prefetch* prefetch = nullptr);

}  // namespace igc
