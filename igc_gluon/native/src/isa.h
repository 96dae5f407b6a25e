// isa.h - which instruction set the library runs on.
#pragma once
#include <string>

#include "kernels/amx_kernels.h"

namespace igc {

// The kernels in use. Raises NoSuchIsa if IGC_NATIVE_ISA names what cannot be run.
const Kernels& current_kernels();
// By name; null: IGC_NATIVE_ISA or, without it, the best that the processor has.
const Kernels& choose_kernels(const char* name);
void use_kernels(const Kernels& kernels);

// What computes in an igc_precision beside these kernels.
struct ReducedUnits {
  const ReducedKernels* vectors = nullptr;  // also what converts; null: all is float32
  bool fast = false;                        // whether their products are faster than those of float32
  const AmxKernels* amx = nullptr;          // or null
  std::string why;                          // it is all in float32
  std::string why_amx;                      // there is no AMX
};
ReducedUnits reduced_units(const Kernels& kernels, int precision);

}  // namespace igc
