// int8.h - convolutions of 8-bit integers made ready for kernels/int8.
//
// A tensor of bytes has a Scale for all of its numbers and one of two orders of channels:
//   its layout's (layout.h), a byte for each position;
//   quads: in each chunk [members 0..3: w words of l][members 4..7] ..., a word being four members of one
//   group, as the kernels of group convolutions read them. For w = 1 both are the same.
// The members of a group are filled up to fours; what those bytes hold meets weights of zero.
#pragma once
#include <functional>
#include <vector>

#include "convolution.h"
#include "kernels/int8_kernels.h"

namespace igc {

// A byte q stands for step * (q - zero).
struct Scale {
  float step = 1;
  int zero = 0;
  // Of numbers in low..high. Signed ones lie evenly around byte 128.
  static Scale of(float low, float high);
};

// `layout` as quads: channel_at says which channel each byte holds, chunks where each begins (in bytes).
Layout as_quads(const Layout& layout);

struct Int8Conv {
  struct Block {
    Int8ConvKernel kernel;
    int x_offset, y_offset, words;  // y_offset in positions
    const int8_t* weights;
    const float *scale, *bias, *secondary;
  };
  std::vector<Block> blocks;
  int kernel_h = 1, kernel_w = 1, stride = 1, pad_h = 0, pad_w = 0;
  bool y_quads = false, r_quads = false;
  Epilogue epilogue;
  size_t weight_bytes = 0;
};

struct Int8Pointwise {
  struct Block {
    Int8PointwiseKernel kernel;
    int first, steps;  // of `inputs`
    int32_t offset[4];
    const int8_t* weights;
    const float *scale, *bias;
  };
  std::vector<int32_t> inputs;
  std::vector<Block> blocks;
  int stride = 1;
  Epilogue epilogue;
  size_t weight_bytes = 0;
};

// Weights as signed bytes, for inputs that are bytes: `step[o]` * their sum of products with q - zero is the
// result of output o.
class Quantised {
 public:
  // input_step(c): of the bytes of input channel c; zero: of all inputs.
  Quantised(const Filter& filter, const Parameters& parameters, const std::function<float(int)>& input_step,
            int zero);
  int8_t at(int32_t number) const { return number < 0 ? 0 : bytes_[number]; }  // a number of the filter
  float step(int output) const { return output < 0 ? 0 : step_[output]; }
  // The bias, without what `zero` adds to the sum over all inputs, weights and taps.
  float bias(int output) const { return parameters_.bias_of(output) - step(output) * surplus(output); }
  float surplus(int output) const { return output < 0 ? 0 : surplus_[output]; }
  const Filter& filter() const { return filter_; }

 private:
  Filter filter_;
  Parameters parameters_;
  std::vector<int8_t> bytes_;
  std::vector<float> step_, surplus_;
};

// How results become what is written: in bytes of a tensor's scale, of a scale for each channel, or floats.
struct Target {
  bool floats = false;
  Scale scale;                      // of bytes
  const float* steps = nullptr;     // of bytes: a step for each channel instead of scale.step
  const Scale* residual = nullptr;  // of the bytes that are added
  int activation = kLinear;

  float unit(int channel) const { return floats ? 1.0f : 1.0f / (steps ? steps[channel] : scale.step); }
  // What every result begins with, in the unit of what is written.
  float start(int channel) const;
  Epilogue epilogue() const;
};

// Group convolution of quads, chunk by chunk, or with `dense` of any bytes to any order. `secondary`: of L <=
// 4, in registers, or null, and its parameters. Results are written in the lanes' order, `out`.
Int8Conv plan_int8_conv(const Int8Kernels& kernels, Arena& arena, const Quantised& filter,
                        const Filter* secondary, const Parameters& mixing, const Layout& in,
                        const Layout& out, bool dense, int stride, int width, const Target& target);
Int8Pointwise plan_int8_pointwise(const Int8Kernels& kernels, Arena& arena, const Quantised& filter,
                                  const Layout& in, const Layout& out, int stride, int width,
                                  const Target& target);

// Rows [begin, end) of the output; planes of bytes are counted in words of four.
void run_int8_conv(const Int8Conv& plan, Plane x, Plane y, Plane residual, int width, int begin, int end);
void run_int8_pointwise(const Int8Pointwise& plan, Plane x, Plane y, Plane residual, int width, int begin,
                        int end);

}  // namespace igc
