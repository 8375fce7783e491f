// What is known of a row of logits without looking at each one again: maxima of small groups and sums of
// exponentials of chunks. Chunks are worked out independently, so threads may share a row; all that is
// derived from a summary takes chunks in ascending order.
#pragma once

#include <stdint.h>

#include "kernels/sampling.h"

namespace weft {

// A row of V logits; `num_groups` and `num_chunks` count its groups of 128 and chunks of 4096.
struct LogitRow {
  const float* values;
  int64_t count;
  int64_t num_groups() const { return (count + kLogitGroup - 1) / kLogitGroup; }
  int64_t num_chunks() const { return (count + kLogitChunk - 1) / kLogitChunk; }
};

// Views into memory of summary_floats(V) floats.
struct LogitSummary {
  float* group_maxima;
  float* chunk_maxima;
  float* raw_sums;     // of e^(x - the chunk's maximum)
  float* scaled_sums;  // of e^((x - the chunk's maximum) * scale)

  LogitSummary(float* memory, const LogitRow& row)
      : group_maxima(memory), chunk_maxima(group_maxima + row.num_groups()), raw_sums(chunk_maxima + row.num_chunks()),
        scaled_sums(raw_sums + row.num_chunks()) {}
};

inline int64_t summary_floats(int64_t vocabulary) {
  const LogitRow row = {nullptr, vocabulary};
  return row.num_groups() + 3 * row.num_chunks();
}

// Which sums a summary has.
struct WantedSums {
  bool raw = false;
  bool scaled = false;
  float scale = 1.0f;
};

// Fills in the part of the summary that chunk `chunk` decides.
void summarise_chunk(const SamplingKernels& kernels, const LogitRow& row, int64_t chunk, const WantedSums& wanted,
                     const LogitSummary& summary);
void summarise(const SamplingKernels& kernels, const LogitRow& row, const WantedSums& wanted,
               const LogitSummary& summary);

// The highest logit, NaN not counted; -infinity when there is none.
float highest_logit(const LogitRow& row, const LogitSummary& summary);

// The lowest id whose logit equals `highest`, which is highest_logit.
int32_t lowest_id_of(const LogitRow& row, const LogitSummary& summary, float highest);

// sum of e^((x - highest) * scale) from the raw (scale 1) or scaled sums.
double exp_total(const LogitRow& row, const LogitSummary& summary, const float* sums, float highest, float scale);

// log of the sum of e^x; needs the raw sums.
double log_sum_exp(const LogitRow& row, const LogitSummary& summary);

// A number that at least `wanted` logits reach, cheap to find: the wanted-th highest group maximum, or
// -infinity when there are fewer groups.
float reached_by(const SamplingKernels& kernels, const LogitRow& row, const LogitSummary& summary, int64_t wanted);

// Logits of at least `threshold` with their ids, ascending; looks only at groups that have some.
int64_t gather_logits(const SamplingKernels& kernels, const LogitRow& row, const LogitSummary& summary, float threshold,
                      float* values, int32_t* ids);

// The wanted-th highest of `count` values (1 <= wanted <= count).
float nth_highest(const SamplingKernels& kernels, const float* values, int64_t count, int64_t wanted);

}  // namespace weft
