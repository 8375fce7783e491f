// Kernels of the backward part, one row at a time, and the row-wise operations that only training has.
// Pointers may have any alignment; the result may lie where any operand of its width does.
#pragma once

#include <stdint.h>

namespace weft {

struct RowGradientKernels {
  // s = 1 / sqrt(mean(x^2) + eps), g = d_out * weight:
  //   d_x[i] = s * (g[i] - x[i] * s^2 * mean(g * x)) + residual[i]
  //   d_weight[i] += d_out[i] * (x[i] * s)
  // residual and d_weight may be null.
  void (*rms_norm)(const float* x, const float* weight, const float* d_out, const float* residual, float* d_x,
                   float* d_weight, int64_t columns, float eps);

  // n = (x - mean) * s, s = 1 / sqrt(variance + eps), g = d_out * weight:
  //   d_x[i] = s * (g[i] - mean(g) - n[i] * mean(g * n)) + residual[i]
  //   d_weight[i] += d_out[i] * n[i], d_bias[i] += d_out[i]
  // residual, d_weight and d_bias may be null.
  void (*layer_norm)(const float* x, const float* weight, const float* d_out, const float* residual, float* d_x,
                     float* d_weight, float* d_bias, int64_t columns, float eps);

  // y = 1 / (1 + e^-gate), gate and up the two halves of x:
  //   d_x[i] = d_out[i] * up[i] * y * (1 + gate[i] * (1 - y)), d_x[features + i] = d_out[i] * gate[i] * y
  void (*silu_gate)(const float* x, const float* d_out, float* d_x, int64_t features);
  void (*silu_gate_bf16)(const uint16_t* x, const float* d_out, float* d_x, int64_t features);
  void (*silu_gate_narrow)(const uint16_t* x, const float* d_out, uint16_t* d_x, int64_t features);

  // d_x[i] = d_out[i] * (the derivative of GELU at x[i])
  void (*gelu_tanh)(const float* x, const float* d_out, float* d_x, int64_t columns);
  void (*gelu_erf)(const float* x, const float* d_out, float* d_x, int64_t columns);

  // out[i] = tanh(x[i]); d_x[i] = d_out[i] * (1 - out[i]^2)
  void (*tanh)(const float* x, float* out, int64_t columns);
  void (*tanh_grad)(const float* out, const float* d_out, float* d_x, int64_t columns);

  // Gives the mean over columns of (x - t)^2; d_x[i] = weight * 2 / columns * (x[i] - t[i]).
  float (*squared_error)(const float* x, const float* targets, float weight, float* d_x, int64_t columns);

  // out[i] = x[i] * scale where the upper 23 bits of random word 0 at `position` + i are at least `threshold`,
  // else 0: Philox4x32-10 as in base/random.h.
  void (*dropout)(const float* x, float* out, int64_t columns, uint64_t seed, uint64_t stream, uint64_t position,
                  uint32_t threshold, float scale);
};

}  // namespace weft
