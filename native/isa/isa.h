// Which instruction sets this processor, its operating system and this build offer, and the kernels of each.
#pragma once

#include <string>
#include <vector>

#include "kernels/table.h"

namespace weft {

// The names of the sets whose kernels can run here, slowest first; "portable" always is one.
// With WEFT_EMULATE_AVX512 the emulated "avx512" counts where "avx2" does. Any thread.
std::vector<std::string> available_isas();

// The kernels of the set `isa`. Throws Error(kValue) for a name that is none, Error(kUnsupported) for a set
// that this machine or build has not; both list the available ones. Any thread.
const Kernels& kernels_for(const std::string& isa);

// The kernels that this process uses: of the set that the environment variable WEFT_ISA names, else of the
// fastest real (not emulated) one. Read once, at the first call that does not throw; throws as kernels_for
// does. Any thread.
const Kernels& default_kernels();

}  // namespace weft
