// amx_kernels.h - what the kernels for AMX offer, Intel's matrix unit: plain tasks, one table.
//
// One instruction multiplies up to 16 pixels x 16 words of inputs with 16 words x 16 outputs of weights and adds the
// products to 16 pixels x 16 sums. Elements, scales and epilogues are those of reduced_kernels.h; distances are in bytes.
#pragma once
#include "reduced_kernels.h"

namespace igc {

// Rows of any convolution (amx/amx_conv.cpp), for N vectors of outputs that read the same words. Each output pixel reads,
// in every row of taps, `steps` runs of `words` words; what of a run is no input meets weights of zero.
struct AmxTask : OutputRows {
  const uint8_t* x;       // the first tap of output pixel (0, 0)
  ptrdiff_t x_row;        // between output rows
  ptrdiff_t x_line;       // between rows of taps
  ptrdiff_t x_step;       // between output pixels
  const int32_t* inputs;  // where in a row of taps each run begins
  int steps, words;
  int kernel_h;
  int pixels;              // of a tile: as configured
  const uint8_t* weights;  // [kernel_h][steps][N][words][16] words
  const float* scale;      // [N][16], of bytes
  const float* bias;       // [N][16]
  int32_t offset[2];       // of the vectors in a pixel, in positions
  bool sums;               // the sums themselves are written, as 32 bits each
};
typedef void (*AmxKernel)(const AmxTask& task, int row_begin, int row_end);

// Rows of the secondary of an IGC block over the sums of its primary (amx/amx_mix.cpp), where the channels of a group lie
// together: lane j of N output vectors takes lane j of every input vector and, of vectors with two groups, its neighbor.
struct AmxMixTask : OutputRows {
  const uint8_t* x;  // sums, 32 bits each
  ptrdiff_t x_row, x_pixel;
  const int32_t* inputs;  // where in a pixel each input vector begins
  int steps;
  const float* weights;  // [steps][1 or 2][N][16]
  const float* bias;     // [N][16]
  int32_t offset[4];     // of the output vectors in a pixel, in positions
};
typedef void (*AmxMixKernel)(const AmxMixTask& task, int row_begin, int row_end);

struct AmxKernels {
  Element element;
  const char* unit;  // what multiplies, for people
  // The state of the calling thread's tiles: `pixels` x `words` by `words` x 16, until release().
  void (*configure)(int pixels, int words);
  void (*release)();
  AmxKernel (*conv)(int n);                // n: 1 or 2
  AmxMixKernel (*mix)(int groups, int n);  // groups of a vector: 1 or 2; n: 1 to 4
};

namespace amx_bf16 {
extern const AmxKernels kernels;
}
namespace amx_int8 {
extern const AmxKernels kernels;
}
namespace emulated_amx_bf16 {  // the same to the bit in plain C++
extern const AmxKernels kernels;
}
namespace emulated_amx_int8 {
extern const AmxKernels kernels;
}

}  // namespace igc
