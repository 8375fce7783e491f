// Random numbers that are a function of where they are used, not of what was drawn before.
//
// Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
// `static`, so that kernels, which are compiled once for each instruction set, may include it.
#pragma once

#include <stdint.h>

namespace weft {

struct Random4 {
  uint32_t word[4];
};

// Ten rounds of the bijection on 128-bit counters that `key` selects.
static inline Random4 philox4x32(Random4 counter, uint32_t key0, uint32_t key1) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter.word[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter.word[2];
    const uint32_t high0 = static_cast<uint32_t>(product0 >> 32), low0 = static_cast<uint32_t>(product0);
    const uint32_t high1 = static_cast<uint32_t>(product1 >> 32), low1 = static_cast<uint32_t>(product1);
    counter = {{high1 ^ counter.word[1] ^ key0, low1, high0 ^ counter.word[3] ^ key1, low0}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

// The four words at `position` of `stream`. Streams of one seed, and positions of one stream, are independent.
static inline Random4 random4(uint64_t seed, uint64_t stream, uint64_t position) {
  const Random4 counter = {{static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                            static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)}};
  return philox4x32(counter, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// Uniform in (0, 1), both ends excluded, from 23 bits: an odd multiple of 2^-24.
static inline float uniform(uint64_t seed, uint64_t stream, uint64_t position) {
  const uint32_t bits = random4(seed, stream, position).word[0] >> 9;
  return (static_cast<float>(bits) + 0.5f) * 0x1p-23f;
}

// Uniform in (0, 1), both ends excluded, from 52 bits: an odd multiple of 2^-53.
static inline double uniform_f64(uint64_t seed, uint64_t stream, uint64_t position) {
  const Random4 random = random4(seed, stream, position);
  const uint64_t bits = ((uint64_t{random.word[1]} << 32) | random.word[0]) >> 12;
  return (static_cast<double>(bits) + 0.5) * 0x1p-52;
}

}  // namespace weft
