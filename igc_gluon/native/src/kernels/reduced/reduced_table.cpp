// reduced_table.cpp - the kernels for one kind of elements and one instruction set, for ../../isa.cpp to choose.
#include "words.h"

namespace igc {
namespace IGC_TARGET {

ReducedConvKernel conv_kernel(int w, int q, int kernel_w, int stride, bool secondary, int width);
ReducedPointwiseKernel pointwise_kernel(int s, int n, int width);
void reduce(const ConvertTask& task);
void widen(const ConvertTask& task);
void make_words(const WordsTask& task);

#ifdef __AVX512BF16__
// In registers alone, and enough of them to hide the latency.
#define IGC_TWELVE(operation)                                \
  __m512 sum[12], one = _mm512_set1_ps(1);                   \
  for (int i = 0; i < 12; i++) sum[i] = _mm512_setzero_ps(); \
  for (int i = 0; i < times; i++)                            \
    IGC_TIMES (k, 12) __asm__ volatile(operation " %1, %1, %0" : "+v"(sum[k]) : "v"(one))
static void spin_floats(int times) { IGC_TWELVE("vfmadd231ps"); }
static void spin_products(int times) { IGC_TWELVE("vdpbf16ps"); }
#else
constexpr void (*spin_floats)(int) = nullptr, (*spin_products)(int) = nullptr;
#endif

#if defined(IGC_BYTES) && defined(IGC_EMULATED)
constexpr const char* kUnit = "VNNI, emulated";
#elif defined(__AVX512VNNI__)
constexpr const char* kUnit = "AVX-512 VNNI";
#elif defined(__AVXVNNI__)
constexpr const char* kUnit = "AVX-VNNI";
#elif defined(IGC_BYTES)
constexpr const char* kUnit = "AVX2";
#elif defined(IGC_EMULATED)
constexpr const char* kUnit = "AVX512-BF16, emulated";
#else
constexpr const char* kUnit = "AVX512-BF16";
#endif

extern const ReducedKernels kernels;
const ReducedKernels kernels = {kElement,         kUnit,         conv_kernel,  kReducedVectors,
                                pointwise_kernel, kReducedUnits, reduce,       widen,
                                make_words,       spin_floats,   spin_products};

}  // namespace IGC_TARGET
}  // namespace igc
