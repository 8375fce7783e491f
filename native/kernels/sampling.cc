#include "kernels/sampling.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr float kLowest = -__builtin_inff();

// The last lanes of a row, filled up with `fill`.
inline F32 load_filled(const float* from, int64_t count, float fill) {
  if (count >= kLanes) return load(from);
  float lanes[kLanes];
  store(lanes, broadcast(fill));
  store_partial(lanes, load_partial(from, count), count);
  return load(lanes);
}

// max(value, best) keeps `best` where the value is NaN.
float maximum_of(const float* values, int64_t count) {
  F32 best[4] = {broadcast(kLowest), broadcast(kLowest), broadcast(kLowest), broadcast(kLowest)};
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes)
    for (int chain = 0; chain < 4; ++chain) best[chain] = max(load(values + i + chain * kLanes), best[chain]);
  for (; i < count; i += kLanes) best[0] = max(load_filled(values + i, count - i, kLowest), best[0]);
  return reduce_max(max(max(best[0], best[1]), max(best[2], best[3])));
}

void group_maxima(const float* values, int64_t count, float* maxima) {
  for (int64_t first = 0; first < count; first += kLogitGroup)
    *maxima++ = maximum_of(values + first, count - first < kLogitGroup ? count - first : kLogitGroup);
}

inline F32 scaled_exp(F32 value, F32 maximum, F32 scale) { return exp(mul(sub(value, maximum), scale)); }

float exp_sum(const float* values, int64_t count, float maximum, float scale) {
  const F32 shift = broadcast(maximum), factor = broadcast(scale);
  F32 sums[2] = {zero(), zero()};
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes)
    for (int chain = 0; chain < 2; ++chain)
      sums[chain] = add(sums[chain], scaled_exp(load(values + i + chain * kLanes), shift, factor));
  for (; i < count; i += kLanes)
    sums[0] = add(sums[0], scaled_exp(load_filled(values + i, count - i, kLowest), shift, factor));
  return reduce_add(add(sums[0], sums[1]));
}

void exp_each(const float* values, int64_t count, float maximum, float scale, float* out) {
  const F32 shift = broadcast(maximum), factor = broadcast(scale);
  for (int64_t i = 0; i < count; i += kLanes)
    store_partial(out + i, scaled_exp(load_partial(values + i, count - i), shift, factor), count - i);
}

int64_t gather(const float* values, int64_t count, int32_t first_id, float threshold, float* out, int32_t* ids) {
  const F32 limit = broadcast(threshold);
  int64_t found = 0;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t lanes = count - i < kLanes ? count - i : kLanes;
    uint32_t bits = lanes_at_least(load_partial(values + i, lanes), limit) & ((1u << lanes) - 1u);
    for (; bits != 0; bits &= bits - 1) {
      const int lane = __builtin_ctz(bits);
      out[found] = values[i + lane];
      ids[found++] = first_id + static_cast<int32_t>(i) + lane;
    }
  }
  return found;
}

int64_t count_at_least(const float* values, int64_t count, float threshold) {
  const F32 limit = broadcast(threshold);
  int64_t found = 0, i = 0;
  for (; i + kLanes <= count; i += kLanes) found += __builtin_popcount(lanes_at_least(load(values + i), limit));
  for (; i < count; ++i) found += values[i] >= threshold;
  return found;
}

float mass_at_least(const float* values, const float* weights, int64_t count, float threshold) {
  const F32 limit = broadcast(threshold);
  F32 sum = zero();
  for (int64_t i = 0; i < count; i += kLanes) {
    const F32 value = load_filled(values + i, count - i, kLowest);
    sum = add(sum, where_at_least(value, limit, load_partial(weights + i, count - i)));
  }
  return reduce_add(sum);
}

}  // namespace

const SamplingKernels kSampling = {group_maxima, exp_sum, exp_each, gather, count_at_least, mass_at_least};

}  // namespace weft::kernels::WEFT_KERNELS
