// train_kernels.h - what the kernels of one instruction set offer to training, beside those of kernels.h.
#pragma once
#include "kernels.h"

namespace igc {

// Gradient of the packed weights of one block of a group convolution (weights.cpp): for all rows and pixels
// w[dy][m][dx][q] += d[q] * x[tap (dy, dx)][m]. Distances as in ConvTask.
struct ConvWeightTask {
  const float* x;
  ptrdiff_t x_row, x_line, x_step, x_tap;
  const float* d;  // gradient of the output, at the block's first vector
  ptrdiff_t d_row, d_pixel;
  float* w;  // [kernel_h][inputs][kernel_w][Q][16]
  int kernel_h, kernel_w, inputs, width;
};
typedef void (*ConvWeightKernel)(const ConvWeightTask& task, int row_begin, int row_end);

// The same for one block of a 1x1 product: w[k / S][n][o * S + s] += d[offset[n] + o] * x[k + s].
struct PointwiseWeightTask {
  const float* x;
  ptrdiff_t x_row, x_pixel;
  const Segment* segments;
  int n_segments;
  const float* d;
  ptrdiff_t d_row, d_pixel;
  int32_t offset[4];
  float* w;  // [input / S][N][16]
  int width;
};
typedef void (*PointwiseWeightKernel)(const PointwiseWeightTask& task, int row_begin, int row_end);

// The secondary of L <= 4, whose channels are runs of four lanes (rows.cpp).
struct FoursTask {
  const float* x;
  ptrdiff_t x_row, x_pixel;
  const float* weights;  // [vector][4][16], as ConvTask::secondary
  float* y;              // fours: result; fours_weights: null
  ptrdiff_t y_row, y_pixel;
  const float* d;  // fours_weights: gradient of the output
  ptrdiff_t d_row, d_pixel;
  float* w;  // fours_weights: [vector][4][16], added to
  int vectors, width;
};

// Passes over `pixels` pixels of `positions` floats, a multiple of 16, one after the other. Arrays without
// "pixels" in their description have one number for each position.

struct ActivateTask {  // y = activation(a * u + b + residual), residual being c * r + d where c is given
  const float *u, *a, *b;
  const float *r, *c, *d;  // null: none
  float *y, *copy;         // copy: null, or a second place for y
  int pixels, positions;
  int activation;
};

struct FinishTask {   // the gradient that arrives at a value becomes that of its batch normalization's output
  const float* from;  // pixels
  const float *more, *again;  // pixels: further gradients to add, or null
  float* to;                  // pixels; may be `from`
  const float* value;         // pixels: what the activation gave, or null: from a * u + b
  const float *u, *a, *b, *mean;
  const float *u2, *mean2;  // a second producer of a sum, or null
  float *sum, *dot, *dot2;  // set to the sums of to, to * (u - mean), to * (u2 - mean2)
  int pixels, positions;
  int activation;  // through which the gradient passes; kRelu6 not with `value`
};

// Max pooling's way back: adds d, the gradient of y, to dx where x gave y. Both lie as y and x do.
struct PoolBackTask {
  PoolTask forward;
  const float* d;
  float* dx;
};

struct TrainKernels {
  ConvWeightKernel (*conv_weights)(int w, int q);
  PointwiseWeightKernel (*pointwise_weights)(int s, int n);
  void (*fours)(const FoursTask& task, int rows);
  void (*fours_weights)(const FoursTask& task, int rows);
  void (*activate)(const ActivateTask& task);
  // sum[c] = sum of u - shift, square[c] = sum of (u - shift)^2
  void (*moments)(const float* u, const float* shift, float* sum, float* square, int pixels, int positions);
  // to = ka * dz + kb * u + kc
  void (*normalize_back)(const float* dz, const float* u, const float* ka, const float* kb, const float* kc,
                         float* to, int pixels, int positions);
  void (*finish)(const FinishTask& task);
  void (*max_pool_back)(const PoolBackTask& task, int row_begin, int row_end);
  void (*add)(const float* from, const float* more, float* to, int pixels, int positions);
};

namespace avx512 {
extern const TrainKernels train_kernels;
}
namespace avx2 {
extern const TrainKernels train_kernels;
}
namespace portable {
extern const TrainKernels train_kernels;
}

}  // namespace igc
