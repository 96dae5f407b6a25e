// table.cpp - the kernels of one instruction set, for ../isa.cpp to choose.
#include "kernels.h"
#include "simd.h"

namespace igc {
namespace IGC_TARGET {

ConvKernel conv_kernel(int w, int q, int kernel_w, int stride, bool secondary, int width, int* tile);
int conv_vectors(int kernel_w, int stride);
ConvKernel channelwise_kernel(int stride, int width);
PointwiseKernel pointwise_kernel(int s, int n, int width);
void max_pool(const PoolTask& task, int row_begin, int row_end);
void mean_pool(const PoolTask& task, int begin, int end);

#define IGC_TEXT_(x) #x
#define IGC_TEXT(x) IGC_TEXT_(x)
extern const Kernels kernels;
const Kernels kernels = {IGC_TEXT(IGC_TARGET), conv_kernel, conv_vectors, channelwise_kernel,
                         pointwise_kernel,     kMaxVectors, max_pool,     mean_pool};

}  // namespace IGC_TARGET
}  // namespace igc
