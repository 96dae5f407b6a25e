// isa.h - which instruction set the library runs on.
#pragma once
#include "kernels/int8_kernels.h"

namespace igc {

// The kernels in use. Raises BadArgument if IGC_NATIVE_ISA names what cannot be run.
const Kernels& current_kernels();
// By name; null: IGC_NATIVE_ISA or, without it, the best that the processor has.
const Kernels& choose_kernels(const char* name);
void use_kernels(const Kernels& kernels);
// The kernels for bytes that go with these: null where the instruction set or this processor has none.
const Int8Kernels* int8_kernels(const Kernels& kernels);

}  // namespace igc
