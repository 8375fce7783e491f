// The choice of a set of kernels, and that a run which forces one has it.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "isa/isa.h"
#include "tests/native/check.h"

namespace {

using namespace weft;

void every_available_set_is_its_own() {
  const std::vector<std::string> names = available_isas();
  CHECK_EQUAL(names.front(), std::string("portable"));
  for (const std::string& name : names) {
    std::printf("     available: %s\n", name.c_str());
    CHECK_EQUAL(std::string(kernels_for(name).isa), name);
  }
}

void unknown_sets_are_refused() {
  CHECK_ERROR(kValue, kernels_for("avx1024"));
  CHECK_ERROR(kValue, kernels_for(""));
}

// Throws, and so fails, where the set that WEFT_ISA forces is not available.
void the_forced_set_is_used() {
  const char* forced = std::getenv("WEFT_ISA");
  if (forced == nullptr || forced[0] == '\0') {
    std::printf("     WEFT_ISA is not set: skipped\n");
    return;
  }
  CHECK_EQUAL(std::string(default_kernels().isa), std::string(forced));
}

// What tests of every available set rely on: an emulating build has them test avx512.
void an_emulating_build_has_avx512() {
#if defined(WEFT_EMULATE_AVX512)
  CHECK_EQUAL(available_isas().back(), std::string("avx512"));
#endif
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"every_available_set_is_its_own", every_available_set_is_its_own},
                          {"unknown_sets_are_refused", unknown_sets_are_refused},
                          {"the_forced_set_is_used", the_forced_set_is_used},
                          {"an_emulating_build_has_avx512", an_emulating_build_has_avx512}});
}
