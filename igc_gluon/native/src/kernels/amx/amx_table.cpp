// amx_table.cpp - the kernels for AMX and one kind of elements, for ../../isa.cpp to choose.
#include "tiles.h"

namespace igc {
namespace IGC_TARGET {

AmxKernel conv_kernel(int n);
AmxMixKernel mix_kernel(int groups, int n);

#if defined(IGC_BYTES) && defined(IGC_EMULATED)
constexpr const char* kUnit = "AMX-INT8, emulated";
#elif defined(IGC_BYTES)
constexpr const char* kUnit = "AMX-INT8";
#elif defined(IGC_EMULATED)
constexpr const char* kUnit = "AMX-BF16, emulated";
#else
constexpr const char* kUnit = "AMX-BF16";
#endif

extern const AmxKernels kernels;
const AmxKernels kernels = {kElement, kUnit, configure, release, conv_kernel, mix_kernel};

}  // namespace IGC_TARGET
}  // namespace igc
