// kernels.h - what the kernels of one instruction set offer to the rest of the library: plain tasks, one
// table.
#pragma once
#include <cstddef>
#include <cstdint>

namespace igc {

enum Activation : int { kLinear = 0, kRelu = 1, kRelu6 = 2 };

// Memory that will be read or written soon, in the order in which kernels ask for it meanwhile.
struct Region {
  const float *at = nullptr, *end = nullptr;
};
struct Prefetch {
  static constexpr int kMost = 5;
  Region regions[kMost];
  int count = 0, asked = 0;
  void add(const float* at, ptrdiff_t floats) {
    if (count < kMost) regions[count++] = {at, at + floats};
  }
};

// Rows of a group convolution (conv.cpp): one chunk of the layout, one block of Q output vectors. Distances
// are in floats. x leads to the first tap of output pixel (0, 0), so the halo lies before and after it.
struct ConvTask {
  const float* x;
  ptrdiff_t x_row;         // between output rows: stride * x_line
  ptrdiff_t x_line;        // between rows of taps
  ptrdiff_t x_step;        // between output pixels: stride * x_tap
  ptrdiff_t x_tap;         // between taps of a row
  const float* weights;    // [kernel_h][inputs][kernel_w][Q][16]
  const float* bias;       // [Q][16]
  const float* secondary;  // [Q][4][16] for kernels with the secondary in registers, or null
  float* y;
  ptrdiff_t y_row, y_pixel;
  const float* residual;  // null: none
  ptrdiff_t r_row, r_pixel;
  int kernel_h, kernel_w;
  int inputs;  // channels per group
  int width;   // output pixels of a row
  int activation;
  Region next;         // weights to ask for first, for they lie beyond L2
  Prefetch* prefetch;  // or null
  bool resume;         // y holds the sum over other inputs: go on from there, not from the bias
};
typedef void (*ConvKernel)(const ConvTask& task, int row_begin, int row_end);

// `length` input positions of a pixel from `offset` on.
struct Segment {
  int32_t offset, length;
};

// Rows of a 1x1 product (pointwise.cpp): N units of 16 / S output channels that read the same segments.
struct PointwiseTask {
  const float* x;
  ptrdiff_t x_row, x_pixel;
  const Segment* segments;
  int n_segments;
  const float* weights;  // [input / S][N][16]: lane o * S + s holds output o, input k + s
  const float* bias;     // [N][16]: lane o * S holds output o, the other lanes 0
  float* y;
  ptrdiff_t y_row, y_pixel;
  int32_t offset[4];  // of the units' outputs in a pixel
  const float* residual;
  ptrdiff_t r_row, r_pixel;
  int width;
  int activation;
  Region next;
  Prefetch* prefetch;
};
typedef void (*PointwiseKernel)(const PointwiseTask& task, int row_begin, int row_end);

// Max pooling (pool.cpp). x leads to pixel (0, 0) of the image; windows are clipped to it.
struct PoolTask {
  const float* x;
  ptrdiff_t x_row, x_pixel;
  float* y;
  ptrdiff_t y_row, y_pixel;
  int height, width;         // of x
  int out_width, positions;  // positions: a multiple of 16
  int kernel_h, kernel_w, stride, pad_h, pad_w;
};

struct Kernels {
  const char* name;
  // The kernel for vectors of 16 / w outputs of w groups, blocks of q vectors, rows of `width` pixels; with
  // `secondary`, of L = 4 in registers. Null where q is more than conv_vectors() or there is no such kernel.
  // *tile: pixels of its register tile; where they do not divide the width, some pixels are computed twice.
  ConvKernel (*conv)(int w, int q, int kernel_w, int stride, bool secondary, int width, int* tile);
  int (*conv_vectors)(int kernel_w, int stride);  // the largest q
  // The kernel for 3x3 convolutions of single channels, one vector at a time; null for other strides than 1
  // and 2.
  ConvKernel (*channelwise)(int stride, int width);
  PointwiseKernel (*pointwise)(int s, int n, int width);
  int pointwise_units;  // the largest n
  void (*max_pool)(const PoolTask& task, int row_begin, int row_end);
  // Means over the image of the vectors [begin, end) of 16 positions, into y.
  void (*mean_pool)(const PoolTask& task, int begin, int end);
};

namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace portable {
extern const Kernels kernels;
}

}  // namespace igc
