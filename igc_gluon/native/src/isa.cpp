#include "isa.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <string>

#include "net.h"

namespace igc {
namespace {

struct Candidate {
  const char* name;
  const Kernels* kernels;  // null: not built in
  const char* missing;     // what the processor lacks, or null
};

#ifdef IGC_X86
// __builtin_cpu_supports also asks whether the operating system saves the registers.
const char* lacks_avx512() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512f")) return "AVX-512F";
  if (!__builtin_cpu_supports("avx512bw")) return "AVX-512BW";
  if (!__builtin_cpu_supports("avx512dq")) return "AVX-512DQ";
  if (!__builtin_cpu_supports("avx512vl")) return "AVX-512VL";
  return nullptr;
}
const char* lacks_avx2() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2")) return "AVX2";
  if (!__builtin_cpu_supports("fma")) return "FMA";
  return nullptr;
}
#endif

std::atomic<const Kernels*> current{nullptr};

}  // namespace

const Kernels& choose_kernels(const char* name) {
  const char* wanted = name ? name : std::getenv("IGC_NATIVE_ISA");
  if (wanted && !*wanted) wanted = nullptr;
  const std::string said = name ? "instruction set" : "IGC_NATIVE_ISA";
  const Candidate candidates[] = {
  // best first
#ifdef IGC_X86
      {"avx512", &avx512::kernels, lacks_avx512()},
      {"avx2", &avx2::kernels, lacks_avx2()},
#else
      {"avx512", nullptr, nullptr},
      {"avx2", nullptr, nullptr},
#endif
      {"portable", &portable::kernels, nullptr},
  };
  for (const Candidate& candidate : candidates) {
    const bool works = candidate.kernels && !candidate.missing;
    if (!wanted && works) return *candidate.kernels;
    if (!wanted || std::strcmp(wanted, candidate.name)) continue;
    if (works) return *candidate.kernels;
    throw BadArgument(said + " " + wanted +
                      (candidate.kernels ? std::string(": this processor lacks ") + candidate.missing
                                         : std::string(" is not built into this library")));
  }
  throw BadArgument(said + " " + wanted + " is unknown; there are avx512, avx2 and portable");
}

const Kernels& current_kernels() {
  const Kernels* kernels = current.load();
  if (!kernels) {
    kernels = &choose_kernels(nullptr);
    current.store(kernels);
  }
  return *kernels;
}

void use_kernels(const Kernels& kernels) { current.store(&kernels); }

const Int8Kernels* int8_kernels(const Kernels& kernels) {
#ifdef IGC_X86
  __builtin_cpu_init();
  if (&kernels == &avx512::kernels && __builtin_cpu_supports("avx512vnni")) return &vnni::kernels;
#endif
  (void)kernels;
  return nullptr;
}

}  // namespace igc
