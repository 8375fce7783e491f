#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind/bind.h"
#include "isa/cache.h"
#include "isa/isa.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {
namespace {

nb::dict cache_bytes() {
  const CacheSizes& sizes = cache_sizes();
  nb::dict result;
  result["l1d_bytes"] = sizes.l1d_bytes;
  result["l2_bytes"] = sizes.l2_bytes;
  result["l3_bytes"] = sizes.l3_bytes;
  return result;
}

}  // namespace

void bind_isa(nb::module_& module) {
  module.def("isa_available", &available_isas,
             "Names of the instruction sets whose kernels can run here, slowest first. Any thread.");
  module.def(
      "isa_selected", [] { return std::string(default_kernels().isa); },
      "Name of the instruction set in use: what WEFT_ISA names, else the fastest; chosen once.\n\n"
      "Raises ConfigError (no such name) or UnsupportedError (not on this machine). Any thread.");
  module.def("cache_bytes", &cache_bytes, nb::sig("def cache_bytes() -> dict[str, int]"),
             "Data caches of the first processor: l1d_bytes, l2_bytes, l3_bytes; 0 where unknown. Any thread.");
}

}  // namespace weft
