// What this machine can do at most, measured on a team of threads.
#pragma once

#include "kernels/table.h"
#include "threads/team.h"

namespace weft {

// The best of several rounds of all threads of the team working at once. FLOP/s count a multiplication
// and an addition as two operations.
struct MachineLimits {
  double f32_flops;
  double bf16_flops;
  double q8_flops;
  double q4_flops;
  double read_bytes_per_second;
};

// Takes about a second. Throws Error(kMemory) when there is no memory for the stream that is read.
MachineLimits measure_limits(Team& team, const Kernels& kernels);

}  // namespace weft
