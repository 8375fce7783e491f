// The settings of one row of a `sample` run, and what they change in its logits.
#pragma once

#include "ops/op.h"
#include "ops/sample.h"

namespace weft {

// Part [begin, end) of a ragged input.
template <typename T>
struct Part {
  const T* data = nullptr;
  int64_t size = 0;
  const T* begin() const { return data; }
  const T* end() const { return data + size; }
};

struct SampleSettings {
  float temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  int64_t top_k, num_top;
  bool wants_log_prob;
  uint64_t seed, stream, position;
  Part<int32_t> history;    // prompt and generated tokens
  Part<int32_t> generated;  // the end of it
  Part<int32_t> bias_ids;
  Part<float> bias_values;
  Part<uint32_t> mask;

  bool is_greedy() const { return temperature < kLeastTemperature; }
  bool adjusts_logits() const { return bias_ids.size > 0 || mask.size > 0 || has_penalty(); }
  bool has_penalty() const {
    return (repetition_penalty != 1.0f && history.size > 0) ||
           ((presence_penalty != 0.0f || frequency_penalty != 0.0f) && generated.size > 0);
  }

  // Below this the highest logit is taken: dividing by less would overflow.
  static constexpr float kLeastTemperature = 1e-5f;
};

// The operands of a sample node by their index in OpArgs::in.
struct SampleOperands {
  int logits, real_settings, int_settings, history, bias_ids, bias_values, mask_words;
};

// Reads row `row`; it has been checked.
SampleSettings sample_settings(const OpArgs& args, const SampleOperands& operands, int64_t row);

// Throws Error(kValue) when a setting of row `row` is out of its range, a part reaches beyond its input, an id
// is not below `vocabulary`, or a mask has another size.
void check_sample_settings(const OpArgs& args, const SampleOperands& operands, int64_t row, int64_t vocabulary);

// Throws Error(kValue) when the mask of row `row` allows no token. Masks may be written until the run's gate opens.
void check_mask_allows(int64_t row, const Part<uint32_t>& mask, int64_t vocabulary);

// adjusted = the logits with bias, penalties and mask. `seen` has room for a bit for each token.
void adjust_logits(const SampleSettings& settings, const float* logits, int64_t vocabulary, float* adjusted,
                   uint32_t* seen);

}  // namespace weft
