// The machine's limits for Python.
#include <nanobind/nanobind.h>

#include "bind/bind.h"
#include "bind/gil.h"
#include "exec/limits.h"
#include "isa/isa.h"
#include "threads/pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {

void bind_limits(nb::module_& module) {
  module.def(
      "measure_limits",
      [](Pool& pool, int team) {
        MachineLimits limits;
        {
          GilReleased release;
          limits = measure_limits(pool.team(team), default_kernels());
        }
        nb::dict result;
        result["f32_flops"] = limits.f32_flops;
        result["bf16_flops"] = limits.bf16_flops;
        result["q8_flops"] = limits.q8_flops;
        result["q4_flops"] = limits.q4_flops;
        result["read_bytes_per_second"] = limits.read_bytes_per_second;
        return result;
      },
      "pool"_a, "team"_a = 0,
      "What the threads of a team can do at most: multiply-add rates on registers (operations per second, "
      "two a multiply-add) and bytes read from memory per second. Takes about two seconds.");
}

}  // namespace weft
