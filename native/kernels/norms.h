// Normalisation of one row: what the rms_norm and layer_norm operations and the fused products share.
// Included by kernel sources only, after kernels/simd.h.
#pragma once

#include "kernels/vectors.h"

namespace weft::kernels::WEFT_KERNELS {

// The sum over lanes of four interleaved chains: an order that the number of columns alone decides.
struct RowSum {
  F32 chains[4] = {zero(), zero(), zero(), zero()};
  float total() const { return reduce_add(add(add(chains[0], chains[1]), add(chains[2], chains[3]))); }
};

// sum of (x[i] - center)^2
static inline float sum_of_squares(const float* x, int64_t columns, float center) {
  RowSum sum;
  const F32 shift = broadcast(center);
  int64_t i = 0;
  for (; i + 4 * kLanes <= columns; i += 4 * kLanes) {
    for (int chain = 0; chain < 4; ++chain) {
      const F32 value = sub(load(x + i + chain * kLanes), shift);
      sum.chains[chain] = fma(value, value, sum.chains[chain]);
    }
  }
  for (int chain = 0; i < columns; i += kLanes, ++chain) {
    const int64_t count = columns - i;
    // Lanes past the end hold `center`, so that they add nothing.
    float tail[kLanes];
    store(tail, shift);
    store_partial(tail, load_partial(x + i, count), count);
    const F32 value = sub(load(tail), shift);
    sum.chains[chain] = fma(value, value, sum.chains[chain]);
  }
  return sum.total();
}

static inline float sum_of(const float* x, int64_t columns) {
  RowSum sum;
  int64_t i = 0;
  for (; i + 4 * kLanes <= columns; i += 4 * kLanes)
    for (int chain = 0; chain < 4; ++chain) sum.chains[chain] = add(sum.chains[chain], load(x + i + chain * kLanes));
  for (int chain = 0; i < columns; i += kLanes, ++chain)
    sum.chains[chain] = add(sum.chains[chain], load_partial(x + i, columns - i));
  return sum.total();
}

// out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]; out may be x. (Zhang and Sennrich, 2019)
static inline void rms_norm_row(const float* x, const float* weight, float* out, int64_t columns, float eps) {
  const float mean = sum_of_squares(x, columns, 0.0f) / static_cast<float>(columns);
  const F32 scale = broadcast(1.0f / __builtin_sqrtf(mean + eps));
  each_vector(columns, [&](int64_t i, auto vector) {
    vector.store(out + i, mul(mul(vector.load(x + i), scale), vector.load(weight + i)));
  });
}

// out[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]; bias may be null, out may be x.
// The variance is taken about the mean in a second pass. (Ba, Kiros and Hinton, 2016)
static inline void layer_norm_row(const float* x, const float* weight, const float* bias, float* out, int64_t columns,
                                  float eps) {
  const float mean = sum_of(x, columns) / static_cast<float>(columns);
  const float variance = sum_of_squares(x, columns, mean) / static_cast<float>(columns);
  const F32 scale = broadcast(1.0f / __builtin_sqrtf(variance + eps));
  const F32 shift = broadcast(mean);
  each_vector(columns, [&](int64_t i, auto vector) {
    const F32 value = mul(sub(vector.load(x + i), shift), scale);
    const F32 offset = bias ? vector.load(bias + i) : zero();
    vector.store(out + i, fma(value, vector.load(weight + i), offset));
  });
}

}  // namespace weft::kernels::WEFT_KERNELS
