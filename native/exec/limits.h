// What this machine can do at most, measured on a team of threads.
#pragma once

#include "kernels/table.h"
#include "threads/team.h"

namespace weft {

// The best of several rounds of the team's threads, no more than one for each core, working at once. FLOP/s count a
// multiplication and an addition as two operations.
struct MachineLimits {
  double f32_flops;
  double bf16_flops;
  double q8_flops;
  double q4_flops;
  double read_bytes_per_second;
};

// Takes about a second, and a quarter of the available memory at most. Throws Error(kMemory) when that is too little
// for the stream that is read, Error(kThread) as Team::run does, or when the threads do not come within a minute.
MachineLimits measure_limits(Team& team, const Kernels& kernels);

}  // namespace weft
