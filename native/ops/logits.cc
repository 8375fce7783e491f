#include "ops/logits.h"

#include <math.h>

#include <algorithm>

#include "ops/logits_search.h"

namespace weft {

namespace {

float exp_sum(const SamplingKernels& kernels, const float* values, int64_t count, float maximum, float scale) {
  return isinf(maximum) ? 0.0f : kernels.exp_sum(values, count, maximum, scale);
}

}  // namespace

void summarise_chunk(const SamplingKernels& kernels, const LogitRow& row, int64_t chunk, const WantedSums& wanted,
                     const LogitSummary& summary) {
  const int64_t first = chunk * kLogitChunk, count = std::min(kLogitChunk, row.count - first);
  const float* values = row.values + first;
  float* maxima = summary.group_maxima + first / kLogitGroup;
  kernels.group_maxima(values, count, maxima);
  const float maximum = *std::max_element(maxima, maxima + (count + kLogitGroup - 1) / kLogitGroup);
  summary.chunk_maxima[chunk] = maximum;
  if (wanted.raw) summary.raw_sums[chunk] = exp_sum(kernels, values, count, maximum, 1.0f);
  if (wanted.scaled) summary.scaled_sums[chunk] = exp_sum(kernels, values, count, maximum, wanted.scale);
}

void summarise(const SamplingKernels& kernels, const LogitRow& row, const WantedSums& wanted,
               const LogitSummary& summary) {
  for (int64_t chunk = 0; chunk < row.num_chunks(); ++chunk) summarise_chunk(kernels, row, chunk, wanted, summary);
}

float highest_logit(const LogitRow& row, const LogitSummary& summary) {
  return *std::max_element(summary.chunk_maxima, summary.chunk_maxima + row.num_chunks());
}

int32_t lowest_id_of(const LogitRow& row, const LogitSummary& summary, float highest) {
  const float* group = std::find(summary.group_maxima, summary.group_maxima + row.num_groups(), highest);
  const float* from = row.values + (group - summary.group_maxima) * kLogitGroup;
  return static_cast<int32_t>(std::find(from, row.values + row.count, highest) - row.values);
}

double exp_total(const LogitRow& row, const LogitSummary& summary, const float* sums, float highest, float scale) {
  double total = 0.0;
  for (int64_t chunk = 0; chunk < row.num_chunks(); ++chunk) {
    const double below = static_cast<double>(summary.chunk_maxima[chunk]) - highest;
    total += exp(below * scale) * sums[chunk];
  }
  return total;
}

double log_sum_exp(const LogitRow& row, const LogitSummary& summary) {
  const float highest = highest_logit(row, summary);
  return highest + log(exp_total(row, summary, summary.raw_sums, highest, 1.0f));
}

float nth_highest(const SamplingKernels& kernels, const float* values, int64_t count, int64_t wanted) {
  return largest_reaching(INFINITY, [&](float t) { return kernels.count_at_least(values, count, t) >= wanted; });
}

float reached_by(const SamplingKernels& kernels, const LogitRow& row, const LogitSummary& summary, int64_t wanted) {
  if (wanted > row.num_groups()) return -INFINITY;
  return nth_highest(kernels, summary.group_maxima, row.num_groups(), wanted);
}

int64_t gather_logits(const SamplingKernels& kernels, const LogitRow& row, const LogitSummary& summary, float threshold,
                      float* values, int32_t* ids) {
  int64_t found = 0;
  for (int64_t group = 0; group < row.num_groups(); ++group) {
    if (!(summary.group_maxima[group] >= threshold)) continue;
    const int64_t first = group * kLogitGroup, count = std::min(kLogitGroup, row.count - first);
    found += kernels.gather(row.values + first, count, static_cast<int32_t>(first), threshold, values + found, ids + found);
  }
  return found;
}

}  // namespace weft
