#include "kernels/cross_entropy.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kSumLogits = 1024;
constexpr float kLowest = -__builtin_inff();

// The last lanes of a row, filled up with `fill`.
inline F32 load_filled(const float* from, int64_t count, float fill) {
  if (count >= kLanes) return load(from);
  float lanes[kLanes];
  store(lanes, broadcast(fill));
  store_partial(lanes, load_partial(from, count), count);
  return load(lanes);
}

struct FourChains {
  F32 at[4];
  explicit FourChains(float value) : at{broadcast(value), broadcast(value), broadcast(value), broadcast(value)} {}
  float sum() const { return reduce_add(add(add(at[0], at[1]), add(at[2], at[3]))); }
};

// The largest value, NaNs left out, and the sum.
void scan(const float* values, int64_t count, float& largest, double& total) {
  FourChains best(kLowest);
  for (int64_t first = 0; first < count; first += kSumLogits) {
    const int64_t end = first + kSumLogits < count ? first + kSumLogits : count;
    FourChains sums(0.0f);
    int64_t i = first;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int chain = 0; chain < 4; ++chain) {
        const F32 value = load(values + i + chain * kLanes);
        best.at[chain] = max(value, best.at[chain]);
        sums.at[chain] = add(sums.at[chain], value);
      }
    }
    for (; i < end; i += kLanes) {
      best.at[0] = max(load_filled(values + i, end - i, kLowest), best.at[0]);
      sums.at[0] = add(sums.at[0], load_filled(values + i, end - i, 0.0f));
    }
    total += sums.sum();
  }
  largest = reduce_max(max(max(best.at[0], best.at[1]), max(best.at[2], best.at[3])));
}

template <bool kStores>
double sum_exponentials(float* values, int64_t count, float largest) {
  const F32 shift = broadcast(largest);
  double total = 0;
  for (int64_t first = 0; first < count; first += kSumLogits) {
    const int64_t end = first + kSumLogits < count ? first + kSumLogits : count;
    FourChains sums(0.0f);
    int64_t i = first;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes) {
      for (int chain = 0; chain < 4; ++chain) {
        const F32 value = exp(sub(load(values + i + chain * kLanes), shift));
        if (kStores) store(values + i + chain * kLanes, value);
        sums.at[chain] = add(sums.at[chain], value);
      }
    }
    for (; i < end; i += kLanes) {
      const F32 value = exp(sub(load_filled(values + i, end - i, kLowest), shift));
      if (kStores) store_partial(values + i, value, end - i);
      sums.at[0] = add(sums.at[0], value);
    }
    total += sums.sum();
  }
  return total;
}

bool occurs(const float* values, int64_t count, float wanted) {
  for (int64_t i = 0; i < count; ++i)
    if (values[i] == wanted) return true;
  return false;
}

LogitStatistics summarise(float* logits, int64_t count, int64_t target, bool exponentials) {
  LogitStatistics statistics = {};
  scan(logits, count, statistics.largest, statistics.sum);
  statistics.at_target = logits[target];
  statistics.target_is_first_largest =
      logits[target] == statistics.largest && !occurs(logits, target, statistics.largest);
  statistics.exp_sum = exponentials ? sum_exponentials<true>(logits, count, statistics.largest)
                                    : sum_exponentials<false>(logits, count, statistics.largest);
  return statistics;
}

void scale_and_shift(float* values, int64_t count, float scale, float offset) {
  const F32 factor = broadcast(scale), shift = broadcast(offset);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(values + i, fma(load(values + i), factor, shift));
  if (i < count) store_partial(values + i, fma(load_partial(values + i, count - i), factor, shift), count - i);
}

}  // namespace

const CrossEntropyKernels kCrossEntropy = {summarise, scale_and_shift};

}  // namespace weft::kernels::WEFT_KERNELS
