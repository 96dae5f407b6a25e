// isa.h - which instruction set the library runs on.
#pragma once
#include <string>

#include "kernels/reduced_kernels.h"

namespace igc {

// The kernels in use. Raises BadArgument if IGC_NATIVE_ISA names what cannot be run.
const Kernels& current_kernels();
// By name; null: IGC_NATIVE_ISA or, without it, the best that the processor has.
const Kernels& choose_kernels(const char* name);
void use_kernels(const Kernels& kernels);
// The kernels for an igc_precision that go with these. Null for float32, and where the instruction set or this processor
// has none or none that are faster; then *why says so.
const ReducedKernels* reduced_kernels(const Kernels& kernels, int precision, std::string* why = nullptr);

}  // namespace igc
