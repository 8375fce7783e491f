// One pass over a piece of a tensor: what an optimizer does with each weight and its gradient.
#pragma once

#include <stdint.h>

namespace weft {

enum class UpdateKind : int32_t { kSgd = 0, kAdam = 1, kAdamW = 2 };

// The numbers of one update; those of another kind are ignored.
struct UpdateRule {
  UpdateKind kind;
  float gradient_scale;  // on every gradient first
  float weight_decay;    // kSgd, kAdam: added to the gradient; kAdamW: in `keep`
  float learning_rate;   // kSgd
  float momentum;        // kSgd; 0: `first` is not used
  bool nesterov;
  float beta1, beta2, eps;
  float keep;            // kAdamW: 1 - learning_rate * weight_decay
  float step_size;       // learning_rate / (1 - beta1^step)
  float second_scale;    // sqrt(1 - beta2^step)
};

struct OptimizerKernels {
  // The sum of x[i]^2 in float64, in an order that `count` alone decides.
  double (*sum_of_squares)(const float* x, int64_t count);

  // For each i, with g = gradient_scale * gradient[i], and gradient[i] = 0 after it:
  //   kSgd            g += weight_decay * w;  first = momentum * first + g;
  //                   w -= learning_rate * (nesterov ? g + momentum * first : first)
  //   kAdam, kAdamW   w *= keep, or g += weight_decay * w;  first += (1 - beta1) * (g - first);
  //                   second = beta2 * second + (1 - beta2) * g * g;
  //                   w -= step_size * first / (sqrt(second) / second_scale + eps)
  // (Kingma and Ba, 2015; Loshchilov and Hutter, 2019; Sutskever et al., 2013)
  void (*update)(const UpdateRule* rule, float* weights, float* gradient, float* first, float* second, int64_t count);
};

}  // namespace weft
