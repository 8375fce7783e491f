// Kernels that read and write one row at a time. Pointers may have any alignment; `out` may be `x`.
#pragma once

#include <stdint.h>

namespace weft {

struct RowKernels {
  // out[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]
  void (*rms_norm)(const float* x, const float* weight, float* out, int64_t columns, float eps);

  // out[i] = (x[i] - mean) / sqrt(variance + eps) * weight[i] + bias[i]; bias may be null.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, float* out, int64_t columns, float eps);

  // out[i] = a[i] + b[i]
  void (*add)(const float* a, const float* b, float* out, int64_t columns);

  // out[i] = silu(x[i]) * x[features + i], silu(x) = x / (1 + e^-x)
  void (*silu_gate)(const float* x, float* out, int64_t features);
  void (*silu_gate_bf16)(const uint16_t* x, float* out, int64_t features);
  void (*silu_gate_narrow)(const uint16_t* x, uint16_t* out, int64_t features);

  // out[i] = x[i] / 2 * (1 + tanh(sqrt(2 / pi) * (x[i] + 0.044715 * x[i]^3)))
  void (*gelu_tanh)(const float* x, float* out, int64_t columns);

  // out[i] = x[i] / 2 * (1 + erf(x[i] / sqrt(2)))
  void (*gelu_erf)(const float* x, float* out, int64_t columns);

  // cosines[i] = scale * cos(2 pi * position * turns[i] / 2^64), sines alike. The angle is reduced in
  // integers, so its error stays below 1e-8 radians up to position 2^25.
  void (*rotary_angles)(int64_t position, const uint64_t* turns, int64_t count, float scale, float* cosines,
                        float* sines);

  // For each head: the first `rotary_dim` values, as two halves a and b, become
  //   a[i] * cosines[i] - b[i] * sines[i]  and  b[i] * cosines[i] + a[i] * sines[i];
  // the others are copied.
  void (*rotary)(const float* x, float* out, const float* cosines, const float* sines, int64_t heads,
                 int64_t head_dim, int64_t rotary_dim);
};

}  // namespace weft
