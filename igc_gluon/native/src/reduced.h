// reduced.h - convolutions of bytes or bfloat16 made ready for kernels/reduced.
//
// A tensor of reduced elements has one of two orders of channels:
//   its layout's (layout.h), an element for each position;
//   words: in each chunk [members of the first word: w words of l][members of the second] ..., a word being four (bytes)
//   or two (bfloat16) members of one group, as the kernels of group convolutions read them. For w = 1 both are the same.
// The members of a group are filled up to whole words; what those elements hold meets weights of zero.
// A tensor of bytes has a Scale for all of its numbers. bfloat16 stands for itself: a Scale of 1.
#pragma once
#include <functional>
#include <vector>

#include "convolution.h"
#include "kernels/reduced_kernels.h"

namespace igc {

// A byte q stands for step * (q - zero).
struct Scale {
  float step = 1;
  int zero = 0;
  // Of bytes for numbers in low..high. Signed ones lie evenly around byte 128.
  static Scale of(float low, float high);
};

// Rounded to nearest even, subnormal numbers to zero, as VCVTNEPS2BF16 does.
uint16_t to_bfloat16(float value);

// `layout` as words: channel_at says which channel each element holds, chunks where each begins (in elements).
Layout as_words(const Layout& layout, int members_of_word);

struct ReducedConv {
  struct Block {
    ReducedConvKernel kernel;
    int x_offset, y_offset, words;  // offsets in elements
    const uint8_t* weights;
    const float *scale, *bias, *secondary;
  };
  std::vector<Block> blocks;
  int kernel_h = 1, kernel_w = 1, stride = 1, pad_h = 0, pad_w = 0;
  bool y_words = false, r_words = false;
  Epilogue epilogue;
  size_t weight_bytes = 0;
};

struct ReducedPointwise {
  struct Block {
    ReducedPointwiseKernel kernel;
    int first, steps;  // of `inputs`
    int32_t offset[4];
    const uint8_t* weights;
    const float *scale, *bias;
  };
  std::vector<int32_t> inputs;
  std::vector<Block> blocks;
  int stride = 1;
  Epilogue epilogue;
  size_t weight_bytes = 0;
};

// Weights as elements. Of bytes: signed, for inputs that are bytes; `step[o]` * their sum of products with q - zero is
// the result of output o.
class ReducedFilter {
 public:
  // input_step(c): of the bytes of input channel c; zero: of all inputs.
  ReducedFilter(Element element, const Filter& filter, const Parameters& parameters,
                const std::function<float(int)>& input_step, int zero);
  // The bits of a number of the filter.
  uint16_t at(int32_t number) const { return number < 0 ? (uint16_t)0 : elements_[number]; }
  float step(int output) const { return output < 0 ? 0 : step_[output]; }
  // The bias, without what `zero` adds to the sum over all inputs, weights and taps.
  float bias(int output) const { return parameters_.bias_of(output) - step(output) * surplus(output); }
  float surplus(int output) const { return output < 0 ? 0 : surplus_[output]; }
  const Filter& filter() const { return filter_; }

 private:
  void quantize(const std::function<float(int)>& input_step, int zero);

  Filter filter_;
  Parameters parameters_;
  std::vector<uint16_t> elements_;
  std::vector<float> step_, surplus_;
};

// How results become what is written: in bytes of a tensor's scale, of a scale for each channel, or as they are.
struct Target {
  bool floats = false;
  Scale scale;                      // of bytes
  const float* steps = nullptr;     // of bytes: a step for each channel instead of scale.step
  const Scale* residual = nullptr;  // of the elements that are added
  int activation = kLinear;

  float unit(int channel) const { return floats ? 1.0f : 1.0f / (steps ? steps[channel] : scale.step); }
  // What every result begins with, in the unit of what is written.
  float start(int channel) const;
  Epilogue epilogue() const;
};

// Group convolution of words, chunk by chunk, or with `dense` of any elements to any order. `secondary`: of L <=
// 4, in registers, or null, and its parameters. Results are written in the lanes' order, `out`.
ReducedConv plan_reduced_conv(const ReducedKernels& kernels, Arena& arena, const ReducedFilter& filter,
                              const Filter* secondary, const Parameters& mixing, const Layout& in,
                              const Layout& out, bool dense, int stride, int width, const Target& target);
ReducedPointwise plan_reduced_pointwise(const ReducedKernels& kernels, Arena& arena,
                                        const ReducedFilter& filter, const Layout& in, const Layout& out,
                                        int stride, int width, const Target& target);

// A plane of elements, which is counted in words, in bytes.
struct BytePlane {
  uint8_t* at;
  ptrdiff_t row, pixel;
  explicit BytePlane(Plane p) : at(reinterpret_cast<uint8_t*>(p.at)), row(4 * p.row), pixel(4 * p.pixel) {}
};

inline OutputRows output_rows(const BytePlane& to, const BytePlane& added, int width,
                              const Epilogue& epilogue) {
  return {to.at, to.row, to.pixel, added.at, added.row, added.pixel, width, epilogue};
}

// Rows [begin, end) of the output; planes of elements are counted in words.
void run_reduced_conv(Element element, const ReducedConv& plan, Plane x, Plane y, Plane residual, int width,
                      int begin, int end);
void run_reduced_pointwise(const ReducedPointwise& plan, Plane x, Plane y, Plane residual, int width,
                           int begin, int end);

}  // namespace igc
