// reduced_kernels.h - what the kernels for elements of 8 or 16 bits offer: plain tasks, one table.
//
// Elements lie in words of 32 bits, several members of a group in each ("words" order, see ../reduced.h): four bytes or
// two numbers of bfloat16. One instruction multiplies the elements of a word of activations with those of a word of
// weights, in each of 16 lanes, and adds the products to the lane's sum. So what is a float in the layout of layout.h
// is a word here, and the kernels are those for floats with words in their place. Distances are in bytes.
//
// Bytes q stand for s * (q - z): z = 0 after a ReLU, 128 where they may be negative. Weights are signed bytes with a
// scale for each output channel. Products are added in 32-bit integers, exactly; one multiply-add in float32 takes the
// sum to the unit of what is written (bias, z and the ratio of scales are folded into it), then come residual and
// activation.
//
// bfloat16 is the upper half of a float32, with its range: nothing overflows that does not in float32. Products are
// added in float32; bias, residual and activation follow in float32, and what is written is rounded to nearest even.
#pragma once
#include "kernels.h"

namespace igc {

enum class Element : uint8_t { Float32, Bfloat16, Byte };
constexpr int bytes_of(Element element) {
  return element == Element::Float32 ? 4 : element == Element::Bfloat16 ? 2 : 1;
}
constexpr int per_word(Element element) { return 4 / bytes_of(element); }

// How a kernel ends: from sums to what is written.
struct Epilogue {
  bool floats = false;   // writes float32, not reduced elements
  float lowest = 0;      // of floats and bfloat16. Bytes are clipped to 0..255, which for z = 0 is a ReLU
  float highest = 0;     // of floats and bfloat16
  float residual_scale;  // of bytes: residual * residual_scale is added; its z lies in the bias
};

// Where rows of results are written, and how; of every task that multiplies.
struct OutputRows {
  uint8_t* y;
  ptrdiff_t y_row, y_pixel;
  const uint8_t* residual;  // reduced elements, or null
  ptrdiff_t r_row, r_pixel;
  int width;  // output pixels of a row
  Epilogue epilogue;
};

// Rows of a group convolution over words (reduced/reduced_conv.cpp), as ConvTask.
struct ReducedConvTask : OutputRows {
  const uint8_t* x;
  ptrdiff_t x_row, x_line, x_step, x_tap;
  const uint8_t* weights;  // [kernel_h][words][kernel_w][Q][16] words
  const float* scale;      // [Q][16], of bytes; with a secondary in registers not used
  const float* bias;       // [Q][16]
  const float* secondary;  // [Q][4][16], or null
  int kernel_h, kernel_w;
  int words;              // of members per group
  bool y_words, r_words;  // whether the 16 lanes of a vector are written, read in words' order: small w only
};
typedef void (*ReducedConvKernel)(const ReducedConvTask& task, int row_begin, int row_end);

// Rows of a 1x1 product (reduced/reduced_pointwise.cpp), as PointwiseTask: a vector of weights holds S words for each of 16 / S
// outputs.
struct ReducedPointwiseTask : OutputRows {
  const uint8_t* x;
  ptrdiff_t x_row, x_pixel;
  const int32_t* inputs;   // where in a pixel each run of S words begins, in bytes
  int steps;               // runs
  const uint8_t* weights;  // [steps][N][16] words
  const float*
      scale;          // [N][16], of bytes, in the order of the result vectors (reduced/reduced_pointwise.cpp)
  const float* bias;  // the same
  int32_t offset[4];  // of the units' outputs in a pixel, in positions
};
typedef void (*ReducedPointwiseKernel)(const ReducedPointwiseTask& task, int row_begin, int row_end);

// One row of `pixels` with `positions` (a multiple of 16) each (reduced/reduced_convert.cpp).
struct ConvertTask {
  const void* x;
  void* y;
  ptrdiff_t x_pixel, y_pixel;  // bytes
  int pixels, positions;
  float scale, shift;  // of bytes: y = x * scale + shift, rounded if y are bytes
};

// For every pixel of a row the runs of `lanes` elements of `members` members become words, as many as members fill
// (reduced/reduced_convert.cpp).
struct WordsTask {
  const uint8_t* x;
  uint8_t* y;
  ptrdiff_t x_pixel, y_pixel;
  int pixels, members, lanes;  // lanes: 1, 2, 4, 8 or 16
};

struct ReducedKernels {
  Element element;
  const char* unit;  // what multiplies, for people
  // As Kernels::conv and Kernels::pointwise.
  ReducedConvKernel (*conv)(int w, int q, int kernel_w, int stride, bool secondary, int width);
  int conv_vectors;  // the largest q
  ReducedPointwiseKernel (*pointwise)(int s, int n, int width);
  int pointwise_units;
  void (*reduce)(const ConvertTask& task);
  void (*widen)(const ConvertTask& task);
  void (*make_words)(const WordsTask& task);
  // 12 `times` multiply-adds of vectors of float32, and the same number of dot products: to be timed. Or null.
  void (*spin_floats)(int times);
  void (*spin_products)(int times);
};

namespace vnni {  // bytes: AVX-512
extern const ReducedKernels kernels;
}
namespace avxvnni {
extern const ReducedKernels kernels;
}
namespace avx2_int8 {  // without VNNI
extern const ReducedKernels kernels;
}
namespace avx512_bf16 {  // bfloat16
extern const ReducedKernels kernels;
}
namespace emulated_bf16 {  // the same to the bit in plain C++
extern const ReducedKernels kernels;
}
namespace emulated_int8 {
extern const ReducedKernels kernels;
}

}  // namespace igc
