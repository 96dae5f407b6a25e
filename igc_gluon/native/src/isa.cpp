#include "isa.h"

#ifdef IGC_X86
#include <cpuid.h>
#endif

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

#ifdef IGC_HAS_AVX512
// __builtin_cpu_supports also asks whether the operating system saves the registers.
const char* lacks_avx512() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512f")) return "AVX-512F";
  if (!__builtin_cpu_supports("avx512bw")) return "AVX-512BW";
  if (!__builtin_cpu_supports("avx512dq")) return "AVX-512DQ";
  if (!__builtin_cpu_supports("avx512vl")) return "AVX-512VL";
  return nullptr;
}
#endif
#ifdef IGC_HAS_AVX2
const char* lacks_avx2() {
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx2")) return "AVX2";
  if (!__builtin_cpu_supports("fma")) return "FMA";
  return nullptr;
}
#endif

#ifdef IGC_HAS_AVXVNNI
// Not every compiler that has the instructions has a name for them in __builtin_cpu_supports.
bool has_avx_vnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
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
#ifdef IGC_HAS_AVX512
      {"avx512", &avx512::kernels, lacks_avx512()},
#else
      {"avx512", nullptr, nullptr},
#endif
#ifdef IGC_HAS_AVX2
      {"avx2", &avx2::kernels, lacks_avx2()},
#else
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
  (void)kernels;
#if defined(IGC_HAS_AVX512) && defined(IGC_HAS_VNNI)
  __builtin_cpu_init();
  if (&kernels == &avx512::kernels && __builtin_cpu_supports("avx512vnni")) return &vnni::kernels;
#endif
#if defined(IGC_HAS_AVX2) && defined(IGC_HAS_AVXVNNI)
  if (&kernels == &avx2::kernels && has_avx_vnni()) return &avxvnni::kernels;
#endif
#if defined(IGC_HAS_AVX2) && defined(IGC_HAS_AVX2_INT8)
  // Where somebody asks for it: 16 products take a multiplication and an addition, 16 of floats two
  // multiply-adds. Time in float32 over time on bytes, one thread of an AMD Zen 1: L24M2 0.84, L4M8 and W16
  // 0.94, IGCV2 0.87, IGCV3 0.93, L100M2 0.90 (docs/cpu.md).
  const char* wanted = std::getenv("IGC_NATIVE_INT8");
  if (&kernels == &avx2::kernels && wanted && !std::strcmp(wanted, "avx2")) return &avx2_int8::kernels;
#endif
  return nullptr;
}

}  // namespace igc
