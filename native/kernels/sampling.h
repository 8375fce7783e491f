// Kernels over one row of logits: searches by groups, exponentials and sums, all in an order that the
// number of logits decides. `values` may have any alignment.
#pragma once

#include <stdint.h>

namespace weft {

constexpr int64_t kLogitGroup = 128;   // logits that share a maximum
constexpr int64_t kLogitChunk = 4096;  // logits that one tile works on, a multiple of kLogitGroup

struct SamplingKernels {
  // maxima[g] = the largest of values[128 g, 128 g + 128), NaN not counted.
  void (*group_maxima)(const float* values, int64_t count, float* maxima);

  // sum of e^((values[i] - maximum) * scale)
  float (*exp_sum)(const float* values, int64_t count, float maximum, float scale);

  // out[i] = e^((values[i] - maximum) * scale); exactly 0 for an infinitely low value.
  void (*exp_each)(const float* values, int64_t count, float maximum, float scale, float* out);

  // The values of at least `threshold` and first_id + their indices, ascending; returns how many. `out` and
  // `ids` have room for all.
  int64_t (*gather)(const float* values, int64_t count, int32_t first_id, float threshold, float* out, int32_t* ids);

  // How many of the values are at least `threshold`.
  int64_t (*count_at_least)(const float* values, int64_t count, float threshold);

  // The sum of weights[i] over values[i] of at least `threshold`.
  float (*mass_at_least)(const float* values, const float* weights, int64_t count, float threshold);
};

}  // namespace weft
