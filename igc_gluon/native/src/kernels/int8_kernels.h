// int8_kernels.h - what the kernels for 8-bit integers offer: plain tasks, one table.
//
// Activations are bytes q that stand for s * (q - z): z = 0 after a ReLU, 128 where they may be negative.
// Weights are signed bytes with a scale for each output channel. Products are added in 32-bit integers,
// exactly; one multiply-add in float32 takes the sum to the unit of what is written (bias, z and the ratio of
// scales are folded into it), then come residual and activation.
//
// One VPDPBUSD multiplies 4 neighbouring bytes of each of 16 lanes. So what is a float in the layout of
// layout.h is a word of four bytes here, four members of a group ("quads", see ../../int8.h), and the kernels
// are those for floats with words in their place. Distances are in bytes.
#pragma once
#include "kernels.h"

namespace igc {

// How a kernel ends: from sums to what is written.
struct Epilogue {
  bool floats = false;   // writes float32, not bytes
  float lowest = 0;      // of floats. Bytes are clipped to 0..255, which for z = 0 is a ReLU
  float highest = 0;     // of floats
  float residual_scale;  // residual * residual_scale is added; its z lies in the bias
};

// Rows of a group convolution over words (int8/int8_conv.cpp), as ConvTask.
struct Int8ConvTask {
  const uint8_t* x;
  ptrdiff_t x_row, x_line, x_step, x_tap;
  const int8_t* weights;   // [kernel_h][words][kernel_w][Q][16][4]
  const float* scale;      // [Q][16]; with a secondary in registers not used
  const float* bias;       // [Q][16]
  const float* secondary;  // [Q][4][16], or null
  uint8_t* y;
  ptrdiff_t y_row, y_pixel;
  const uint8_t* residual;  // bytes, or null
  ptrdiff_t r_row, r_pixel;
  int kernel_h, kernel_w;
  int words;              // quads of members per group
  int width;              // output pixels of a row
  bool y_quads, r_quads;  // whether the 16 lanes of a vector are written, read as quads: w <= 4 only
  Epilogue epilogue;
};
typedef void (*Int8ConvKernel)(const Int8ConvTask& task, int row_begin, int row_end);

// Rows of a 1x1 product (int8/int8_pointwise.cpp), as PointwiseTask: a vector of weights holds S words for each of 16 / S outputs.
struct Int8PointwiseTask {
  const uint8_t* x;
  ptrdiff_t x_row, x_pixel;
  const int32_t* inputs;  // where in a pixel each run of 4 S inputs begins
  int steps;              // runs
  const int8_t* weights;  // [steps][N][16][4]
  const float* scale;     // [N][16], in the order of the result vectors (int8/int8_pointwise.cpp)
  const float* bias;      // the same
  uint8_t* y;
  ptrdiff_t y_row, y_pixel;
  int32_t offset[4];  // of the units' outputs in a pixel, in positions
  const uint8_t* residual;
  ptrdiff_t r_row, r_pixel;
  int width;
  Epilogue epilogue;
};
typedef void (*Int8PointwiseKernel)(const Int8PointwiseTask& task, int row_begin, int row_end);

// One row of `pixels` with `positions` (a multiple of 16) each (int8/int8_convert.cpp).
struct RescaleTask {
  const void* x;
  void* y;
  ptrdiff_t x_pixel, y_pixel;  // bytes
  int pixels, positions;
  float scale, shift;  // y = x * scale + shift, rounded if y are bytes
};

// For every pixel of a row 4 runs of `lanes` bytes become `lanes` quads, `quads` times (int8/int8_convert.cpp).
struct QuadTask {
  const uint8_t* x;
  uint8_t* y;
  ptrdiff_t x_pixel, y_pixel;
  int pixels, quads, lanes;  // lanes: 1, 2, 4, 8 or 16
};

struct Int8Kernels {
  // As Kernels::conv and Kernels::pointwise.
  Int8ConvKernel (*conv)(int w, int q, int kernel_w, int stride, bool secondary, int width);
  int conv_vectors;  // the largest q
  Int8PointwiseKernel (*pointwise)(int s, int n, int width);
  int pointwise_units;
  void (*quantise)(const RescaleTask& task);
  void (*dequantise)(const RescaleTask& task);
  void (*make_quads)(const QuadTask& task);
};

namespace vnni {  // AVX-512
extern const Int8Kernels kernels;
}
namespace avxvnni {
extern const Int8Kernels kernels;
}
namespace avx2_int8 {  // without VNNI
extern const Int8Kernels kernels;
}

}  // namespace igc
