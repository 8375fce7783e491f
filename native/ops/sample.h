// The run-time inputs of the `sample` operation: what each column means. serve/sampler.py mirrors this file.
#pragma once

#include <stdint.h>

namespace weft {

// sample(logits f32[outputs, V], real_settings f32[outputs, kRealSettings], int_settings i32[outputs,
// kIntSettings], history i32[any, 1], bias_ids i32[any, 1], bias_values f32[any, 1], mask_words u32[any, 1])
//   -> tokens i32[outputs, 1], log_probs f32[outputs, 1], top_ids i32[outputs, kMaxTopLogProbs],
//      top_log_probs f32[outputs, kMaxTopLogProbs]
//
// chooses one token for each row of logits. The steps, in this order (of Hugging Face's processors):
//   1. logit bias: logits[bias_ids[i]] += bias_values[i]
//   2. repetition penalty, once for each distinct token of prompt and generated tokens: positive logits are
//      divided by it, others multiplied
//   3. presence penalty: subtracted once for each distinct generated token; frequency penalty: subtracted
//      once for each generated token
//   4. mask: tokens whose bit is 0 cannot be chosen
//   5. temperature 0: the highest logit, ties to the lowest id. Otherwise logits are divided by it, and
//   6. top_k keeps the k highest (ties with the last are kept), top_p the smallest set of the highest whose
//      probability, among what top_k kept, reaches top_p, min_p those of at least min_p times the highest
//      probability
//   7. one is drawn by inverse distribution function over ascending ids with uniform_f64(seed, stream, position).
// log_probs and top_* are natural logarithms of the model's own distribution: of the logits as they came,
// before steps 1 to 6. Of top_*, the places beyond as many as are wanted hold id 0 and -infinity, the
// log-probability of what cannot come. The result of a row depends on that row alone.
//
// The ragged inputs hold the rows' parts one after another; a row's part is [begin, end) of its columns, and
// empty when begin == end.

enum RealSetting {
  kTemperature,         // 0 or more; 0 chooses the highest logit
  kTopP,                // above 0, at most 1; 1: off
  kMinP,                // 0 to 1; 0: off
  kRepetitionPenalty,   // above 0; 1: off
  kPresencePenalty,     // 0: off
  kFrequencyPenalty,    // 0: off
  kRealSettings
};

enum IntSetting {
  kTopK,             // 0: off
  kWantsLogProb,     // 1: log_probs[row] is computed; 0: it is 0
  kNumTopLogProbs,   // how many of top_ids and top_log_probs are wanted, at most kMaxTopLogProbs and V
  kSeedLow,          // bits 0 to 31 of the seed
  kSeedHigh,         // bits 32 to 63
  kStream,           // which of the seed's streams, as 32 unsigned bits
  kPosition,         // 0 or more: the number of draws before this one
  kHistoryBegin,     // history: the prompt's tokens,
  kGeneratedBegin,   //   then the generated ones
  kHistoryEnd,
  kBiasBegin,        // bias_ids and bias_values
  kBiasEnd,
  kMaskBegin,        // mask_words: ceil(V / 32) words or none; bit id % 32 of word id / 32 allows token id
  kMaskEnd,
  kIntSettings
};

constexpr int64_t kMaxTopLogProbs = 20;

}  // namespace weft
