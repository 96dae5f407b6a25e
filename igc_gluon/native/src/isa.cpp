#include "isa.h"

#ifdef IGC_X86
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
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
    throw NoSuchIsa(said + " " + wanted +
                    (candidate.kernels ? std::string(": this processor lacks ") + candidate.missing
                                       : std::string(" is not built into this library")));
  }
  throw NoSuchIsa(said + " " + wanted + " is unknown; there are avx512, avx2 and portable");
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

namespace {

// "" if it is not set.
std::string setting(const char* name) {
  const char* said = std::getenv(name);
  return said ? said : "";
}

ReducedUnits byte_units(const Kernels& kernels) {
  ReducedUnits units;
  const std::string wanted = setting("IGC_NATIVE_INT8");
  units.fast = true;
#if defined(IGC_HAS_AVX512) && defined(IGC_HAS_VNNI)
  __builtin_cpu_init();
  if (&kernels == &avx512::kernels && __builtin_cpu_supports("avx512vnni")) units.vectors = &vnni::kernels;
#endif
#if defined(IGC_HAS_AVX2) && defined(IGC_HAS_AVXVNNI)
  if (&kernels == &avx2::kernels && has_avx_vnni()) units.vectors = &avxvnni::kernels;
#endif
#if defined(IGC_HAS_AVX2) && defined(IGC_HAS_AVX2_INT8)
  // Where somebody asks for it: 16 products take a multiplication and an addition, 16 of floats two
  // multiply-adds. Time in float32 over time on bytes, one thread of an AMD Zen 1: L24M2 0.84, L4M8 and W16
  // 0.94, IGCV2 0.87, IGCV3 0.93, L100M2 0.90 (docs/cpu.md).
  if (&kernels == &avx2::kernels && !units.vectors && wanted == "avx2") units.vectors = &avx2_int8::kernels;
#endif
  if (wanted == "emulate") units.vectors = &emulated_int8::kernels;
  if (units.vectors) return units;
  units.vectors = &emulated_int8::kernels;  // for emulated AMX
  units.fast = false;
  units.why = std::string("the kernels in use, ") + kernels.name + ", have none; they need AVX-512 with VNNI";
  return units;
}

#if defined(IGC_HAS_AVX512) && defined(IGC_HAS_AVX512_BF16)
// CPUID leaf 7, 1: not every compiler has a name for it in __builtin_cpu_supports.
bool has_avx512_bf16() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5);
}

double seconds(void (*spin)(int)) {
  const auto start = std::chrono::steady_clock::now();
  spin(2000);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// VDPBF16PS does twice the products of a multiply-add of float32. There are processors where it takes as long (AMD),
// and ones where it takes four times as long (Intel's of 2023), so that it loses. The shortest of some turns: other
// programs only make it longer.
bool measured_fast() {
  const ReducedKernels& kernels = avx512_bf16::kernels;
  double floats = 1, products = 1;
  for (int turn = 0; turn < 8; turn++) {
    floats = std::min(floats, seconds(kernels.spin_floats));
    products = std::min(products, seconds(kernels.spin_products));
  }
  return 2 * floats > 1.3 * products;
}
#endif

ReducedUnits half_units(const Kernels& kernels) {
  ReducedUnits units;
  const std::string wanted = setting("IGC_NATIVE_HALF");
  units.vectors = &emulated_bf16::kernels;
  units.fast = wanted == "emulate";
  if (units.fast) return units;
  units.why = std::string("the kernels in use, ") + kernels.name + ", have none; they need AVX512-BF16";
#if defined(IGC_HAS_AVX512) && defined(IGC_HAS_AVX512_BF16)
  if (&kernels == &avx512::kernels && has_avx512_bf16()) {
    static const bool fast = measured_fast();  // once
    units.vectors = &avx512_bf16::kernels;
    units.fast = wanted != "off" && (fast || wanted == "on");
    units.why = "AVX512-BF16 of this processor is no faster than float32";
  }
#endif
  if (wanted == "off") units.why = "IGC_NATIVE_HALF=off says so";
  return units;
}

#if defined(IGC_HAS_AVX512) && (defined(IGC_HAS_AMX_BF16) || defined(IGC_HAS_AMX_INT8))
// Whether the processor has tiles and, by bits of CPUID leaf 7, what multiplies them, and the system saves them.
bool has_amx(unsigned bits) {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return false;  // XGETBV
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & bits) != bits) return false;
  unsigned low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  const unsigned saved = 3u << 17;
  return (low & saved) == saved;
}

// The errno with which Linux refuses this process the use of tiles, or 0. A process asks once, for all of its threads,
// those that it will have too.
int refused_tiles() {
#ifdef __linux__
  constexpr long kAsk = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  static const int error = syscall(SYS_arch_prctl, kAsk, kTileData) ? errno : 0;
  return error;
#else
  return ENOSYS;
#endif
}

const AmxKernels* amx_unit(const AmxKernels& kernels, unsigned bits, std::string& why) {
  if (!has_amx(1u << 24 | bits)) {
    why = "this processor or its system has none";
    return nullptr;
  }
  if (const int error = refused_tiles()) {
    why = std::string("the system refuses it (arch_prctl: ") + std::strerror(error) + ")";
    return nullptr;
  }
  return &kernels;
}
#endif

const AmxKernels* amx_kernels([[maybe_unused]] const Kernels& kernels, int precision, std::string& why) {
  const std::string wanted = setting("IGC_NATIVE_AMX");
  const bool half = precision == IGC_HALF;
  if (wanted == "emulate") return half ? &emulated_amx_bf16::kernels : &emulated_amx_int8::kernels;
  if (wanted == "off") {
    why = "IGC_NATIVE_AMX=off says so";
    return nullptr;
  }
  why = "it is not built into this library";
#ifdef IGC_HAS_AVX512
  if (&kernels != &avx512::kernels) {
    why = std::string("the kernels in use, ") + kernels.name + ", have none; they need AVX-512";
    return nullptr;
  }
#ifdef IGC_HAS_AMX_BF16
  if (half && !has_avx512_bf16()) {
    why = "this processor lacks AVX512-BF16";
    return nullptr;
  }
  if (half) return amx_unit(amx_bf16::kernels, 1u << 22, why);
#endif
#ifdef IGC_HAS_AMX_INT8
  if (!half && !__builtin_cpu_supports("avx512vnni")) {
    why = "this processor lacks AVX-512 VNNI";
    return nullptr;
  }
  if (!half) return amx_unit(amx_int8::kernels, 1u << 25, why);
#endif
#endif
  return nullptr;
}

}  // namespace

ReducedUnits reduced_units(const Kernels& kernels, int precision) {
  if (precision == IGC_FLOAT32) return {};
  ReducedUnits units = precision == IGC_INT8 ? byte_units(kernels) : half_units(kernels);
  units.amx = amx_kernels(kernels, precision, units.why_amx);
  if (!units.fast && !units.amx) units.vectors = nullptr;
  return units;
}

}  // namespace igc
