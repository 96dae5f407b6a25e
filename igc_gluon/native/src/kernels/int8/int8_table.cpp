// int8_table.cpp - the kernels for bytes of one instruction set, for ../../isa.cpp to choose.
#include "int8_simd.h"

namespace igc {
namespace IGC_TARGET {

Int8ConvKernel conv_kernel(int w, int q, int kernel_w, int stride, bool secondary, int width);
Int8PointwiseKernel pointwise_kernel(int s, int n, int width);
void quantise(const RescaleTask& task);
void dequantise(const RescaleTask& task);
void make_quads(const QuadTask& task);

extern const Int8Kernels kernels;
const Int8Kernels kernels = {conv_kernel, kInt8Vectors, pointwise_kernel, kInt8Units,
                             quantise,    dequantise,   make_quads};

}  // namespace IGC_TARGET
}  // namespace igc
