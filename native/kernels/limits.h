// Loops that do nothing but the arithmetic, or the reading, that the real kernels are made of. They
// measure what this machine can do at most; every speed that weft reports is a share of that.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace weft {

struct LimitKernels {
  // Each runs `iterations` rounds on registers alone and returns the operations done in one round, a
  // multiplication and an addition counted as two.
  int64_t (*multiply_f32)(int64_t iterations);
  int64_t (*multiply_bf16)(int64_t iterations);  // with the instructions that the bf16 product uses
  int64_t (*multiply_q8)(int64_t iterations);    // 8-bit weights
  int64_t (*multiply_q4)(int64_t iterations);    // 4-bit weights
  // Reads 1, 2 or 4 equal parts (`streams`) of `bytes`, a multiple of 64 * streams, side by side; returns
  // their combined bits, so that the reading cannot be left out.
  uint64_t (*read)(const void* from, size_t bytes, int streams);
};

}  // namespace weft
