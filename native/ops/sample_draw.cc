#include "ops/sample_draw.h"

#include <math.h>

#include <algorithm>
#include <limits>

#include "base/random.h"
#include "ops/logits_search.h"

namespace weft {

namespace {

// The settings as this row meets them.
struct Filters {
  int64_t top_k;  // 0: off
  float top_p;
  float min_p;
  float scale;    // 1 / temperature
  bool any() const { return top_k > 0 || top_p < 1.0f || min_p > 0.0f; }
};

Filters filters_of(const SampleSettings& settings, int64_t vocabulary) {
  return {settings.top_k < vocabulary ? settings.top_k : 0, settings.top_p, settings.min_p, 1.0f / settings.temperature};
}

[[noreturn]] void refuse(const char* what, double got) {
  throw Error(ErrorKind::kValue, std::string("sampling expects finite ") + what + ", got " + std::to_string(got) +
                                     "; the weights may hold NaN, or the mask and biases leave no token");
}

// The sum of all tokens' weights.
double total_weight(const Filters& filters, const LogitRow& row, const LogitSummary& summary, float highest) {
  const double total = exp_total(row, summary, summary.scaled_sums, highest, filters.scale);
  if (!isfinite(total)) refuse("logits", total);
  return total;
}

// Tokens that the filters may keep: ids ascending, with their logits and e^((logit - highest) * scale).
struct Candidates {
  float* values;
  float* weights;
  int32_t* ids;
  int64_t count;
};

// A logit that every token to keep, or to count, reaches. All tokens below
//   highest + log((1 - top_p) * total / V) / scale
// together have less than 1 - top_p of the probability. The margin covers rounding.
float lowest_useful(const SamplingKernels& kernels, const Filters& filters, const LogitRow& row,
                    const LogitSummary& summary, float highest) {
  const double margin = 1e-3 / filters.scale + 1e-5 * fabs(highest);
  float bound = -INFINITY;
  if (filters.top_k > 0) {
    bound = reached_by(kernels, row, summary, filters.top_k);
  } else if (filters.top_p < 1.0f) {
    const double total = total_weight(filters, row, summary, highest);
    const double share = (1.0 - filters.top_p) * total / static_cast<double>(row.count);
    bound = static_cast<float>(highest + log(share) / filters.scale - margin);
  }
  // top_p counts the mass of all that top_k keeps: then min_p may leave out none of it beforehand.
  if (filters.min_p > 0.0f && !(filters.top_k > 0 && filters.top_p < 1.0f))
    bound = std::max(bound, static_cast<float>(highest + log(filters.min_p) / filters.scale - margin));
  // What is infinitely low, as a mask leaves most of a row, cannot be drawn: it need not be gathered.
  return std::max(bound, std::numeric_limits<float>::lowest());
}

// The logit from which top_k and top_p keep tokens.
float threshold_of(const SamplingKernels& kernels, const Filters& filters, const LogitRow& row,
                   const LogitSummary& summary, float highest, const Candidates& from) {
  float threshold = -INFINITY;
  if (filters.top_k > 0 && filters.top_k < from.count)
    threshold = nth_highest(kernels, from.values, from.count, filters.top_k);
  if (filters.top_p >= 1.0f) return threshold;
  const auto mass = [&](float t) { return kernels.mass_at_least(from.values, from.weights, from.count, t); };
  const double total = filters.top_k > 0 ? mass(threshold) : total_weight(filters, row, summary, highest);
  const double wanted = filters.top_p * total;
  return std::max(threshold, largest_reaching(highest, [&](float t) { return mass(t) >= wanted; }));
}

// The first candidate at which the sum of kept weights exceeds `share` of their total.
int32_t pick(const Candidates& from, float threshold, float min_p, double share) {
  const auto is_kept = [&](int64_t i) { return from.values[i] >= threshold && from.weights[i] >= min_p; };
  double total = 0.0;
  for (int64_t i = 0; i < from.count; ++i)
    if (is_kept(i)) total += from.weights[i];
  const double target = share * total;
  double sum = 0.0;
  int32_t last = from.ids[0];
  for (int64_t i = 0; i < from.count; ++i) {
    if (!is_kept(i) || from.weights[i] == 0.0f) continue;
    last = from.ids[i];
    sum += from.weights[i];
    if (sum > target) break;
  }
  return last;
}

int32_t draw_filtered(const SamplingKernels& kernels, const Filters& filters, const LogitRow& row,
                      const LogitSummary& summary, float highest, double share, const DrawScratch& scratch) {
  const float bound = lowest_useful(kernels, filters, row, summary, highest);
  Candidates from = {scratch.values, scratch.weights, scratch.ids, 0};
  from.count = gather_logits(kernels, row, summary, bound, from.values, from.ids);
  kernels.exp_each(from.values, from.count, highest, filters.scale, from.weights);
  const float threshold = threshold_of(kernels, filters, row, summary, highest, from);
  return pick(from, threshold, filters.min_p, share);
}

// From the whole distribution: first the chunk by the sums, then within it.
int32_t draw_any(const SamplingKernels& kernels, const Filters& filters, const LogitRow& row,
                 const LogitSummary& summary, float highest, double share, const DrawScratch& scratch) {
  double target = share * total_weight(filters, row, summary, highest);
  int64_t chosen = 0;
  for (int64_t chunk = 0; chunk < row.num_chunks(); ++chunk) {
    const double below = static_cast<double>(summary.chunk_maxima[chunk]) - highest;
    const double sum = exp(below * filters.scale) * summary.scaled_sums[chunk];
    if (sum <= 0.0) continue;
    chosen = chunk;
    if (target < sum) break;
    target -= sum;
  }
  const int64_t first = chosen * kLogitChunk, count = std::min(kLogitChunk, row.count - first);
  kernels.exp_each(row.values + first, count, highest, filters.scale, scratch.weights);
  double sum = 0.0;
  int64_t last = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (scratch.weights[i] == 0.0f) continue;
    last = i;
    sum += scratch.weights[i];
    if (sum > target) break;
  }
  return static_cast<int32_t>(first + last);
}

}  // namespace

WantedSums sums_for_draw(const SampleSettings& settings, int64_t vocabulary) {
  WantedSums wanted;
  if (settings.is_greedy()) return wanted;
  const Filters filters = filters_of(settings, vocabulary);
  wanted.scaled = !filters.any() || (filters.top_k == 0 && filters.top_p < 1.0f);
  wanted.scale = filters.scale;
  return wanted;
}

int32_t draw_token(const SamplingKernels& kernels, const SampleSettings& settings, const LogitRow& row,
                   const LogitSummary& summary, const DrawScratch& scratch) {
  const float highest = highest_logit(row, summary);
  if (!isfinite(highest)) refuse("logits", highest);
  if (settings.is_greedy()) return lowest_id_of(row, summary, highest);
  const Filters filters = filters_of(settings, row.count);
  const double share = uniform_f64(settings.seed, settings.stream, settings.position);
  return filters.any() ? draw_filtered(kernels, filters, row, summary, highest, share, scratch)
                       : draw_any(kernels, filters, row, summary, highest, share, scratch);
}

}  // namespace weft
