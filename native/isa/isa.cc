#include "isa/isa.h"

#include <stdlib.h>

#include "base/error.h"
#include "isa/cpuid.h"

namespace weft {
namespace {

struct Isa {
  const char* name;
  const Kernels* (*kernels)();
  bool (*runs_here)();
  bool emulated;
};

#if defined(WEFT_EMULATE_AVX512)
constexpr bool kEmulatedAvx512 = true;
#else
constexpr bool kEmulatedAvx512 = false;
#endif

bool always() { return true; }
bool has_avx2() { return cpu_features().avx2_fma_f16c; }
bool has_avx512() { return kEmulatedAvx512 ? has_avx2() : cpu_features().avx512_vnni_bf16; }

#if !defined(WEFT_X86)
const Kernels* no_kernels() { return nullptr; }
constexpr auto avx2_table = no_kernels, avx512_table = no_kernels;
#else
constexpr auto avx2_table = avx2_kernels, avx512_table = avx512_kernels;
#endif

// Slowest first.
constexpr Isa kIsas[] = {
    {"portable", portable_kernels, always, false},
    {"avx2", avx2_table, has_avx2, false},
    {"avx512", avx512_table, has_avx512, kEmulatedAvx512},
};

bool is_available(const Isa& isa) { return isa.runs_here() && isa.kernels() != nullptr; }

std::string available_list() {
  std::string list;
  for (const std::string& name : available_isas()) list += (list.empty() ? "" : ", ") + name;
  return list;
}

const Kernels& choose() {
  const char* forced = getenv("WEFT_ISA");
  if (forced != nullptr && forced[0] != '\0') return kernels_for(forced);
  const Kernels* best = nullptr;
  for (const Isa& isa : kIsas)
    if (is_available(isa) && !isa.emulated) best = isa.kernels();
  return *best;
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : kIsas)
    if (is_available(isa)) names.emplace_back(isa.name);
  return names;
}

const Kernels& kernels_for(const std::string& name) {
  for (const Isa& isa : kIsas) {
    if (name != isa.name) continue;
    if (is_available(isa)) return *isa.kernels();
    throw Error(ErrorKind::kUnsupported, "expected an instruction set of this machine, got '" + name +
                                             "'; set WEFT_ISA to one of: " + available_list());
  }
  throw Error(ErrorKind::kValue, "expected the name of an instruction set, got '" + name +
                                     "'; set WEFT_ISA to one of: " + available_list());
}

const Kernels& default_kernels() {
  static const Kernels& kernels = choose();
  return kernels;
}

}  // namespace weft
