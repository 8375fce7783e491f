// The rows of a cross-entropy: from logits to their loss and its gradient.
#pragma once

#include <stdint.h>

namespace weft {

struct LogitStatistics {
  float largest;
  bool target_is_first_largest;
  double sum;       // of the logits
  double exp_sum;   // of e^(logit - largest)
  float at_target;  // the target's logit
};

struct CrossEntropyKernels {
  // Partial sums are of 1,024 logits in float32, added up in float64. A NaN among the logits gives a NaN exp_sum.
  // With `exponentials` each logit l becomes e^(l - largest).
  LogitStatistics (*summarise)(float* logits, int64_t count, int64_t target, bool exponentials);

  // values[i] = values[i] * scale + offset
  void (*scale_and_shift)(float* values, int64_t count, float scale, float offset);
};

}  // namespace weft
