#include "isa/cpuid.h"

#include <stdint.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace weft {
namespace {

#if defined(__x86_64__)

struct Registers {
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

Registers cpuid(uint32_t leaf, uint32_t subleaf) {
  Registers r;
  if (!__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx)) return Registers{};
  return r;
}

bool has(uint32_t word, int bit) { return (word >> bit) & 1; }

// XCR0: the register states that the operating system saves on a context switch.
uint64_t saved_register_states(const Registers& leaf1) {
  constexpr int kOsxsave = 27;
  if (!has(leaf1.ecx, kOsxsave)) return 0;
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t{high} << 32) | low;
}

// Bit positions: Intel 64 and IA-32 manual, volume 2A, CPUID.
CpuFeatures detect() {
  const Registers leaf1 = cpuid(1, 0), leaf7 = cpuid(7, 0), leaf7_1 = cpuid(7, 1);
  const uint64_t saved = saved_register_states(leaf1);
  constexpr uint64_t kYmm = 0x06, kZmm = 0xe6;  // XMM and YMM; and also opmask, ZMM0-15 high, ZMM16-31

  CpuFeatures features;
  const bool fma = has(leaf1.ecx, 12), avx = has(leaf1.ecx, 28), f16c = has(leaf1.ecx, 29);
  const bool avx2 = has(leaf7.ebx, 5), bmi2 = has(leaf7.ebx, 8);
  features.avx2_fma_f16c = fma && avx && f16c && avx2 && bmi2 && (saved & kYmm) == kYmm;

  const bool f = has(leaf7.ebx, 16), dq = has(leaf7.ebx, 17), bw = has(leaf7.ebx, 30), vl = has(leaf7.ebx, 31);
  const bool vnni = has(leaf7.ecx, 11), bf16 = has(leaf7_1.eax, 5);
  features.avx512_vnni_bf16 =
      features.avx2_fma_f16c && f && dq && bw && vl && vnni && bf16 && (saved & kZmm) == kZmm;
  return features;
}

#else

CpuFeatures detect() { return CpuFeatures{}; }

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

}  // namespace weft
