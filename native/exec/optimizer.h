// The update of a training step, shared out over all threads of a pool.
#pragma once

#include <memory>
#include <vector>

#include "kernels/table.h"
#include "memory/tensor.h"
#include "threads/pool.h"

namespace weft {

using Tensors = std::vector<std::shared_ptr<Tensor>>;

// The square root of the sum of all squares: partial sums in float64 over blocks of 4,096 elements of each tensor,
// added up in order, so that no bit depends on the threads. Throws as Pool::run_teams does.
double gradient_norm(Pool& pool, const Kernels& kernels, const Tensors& gradients);

// What an optimizer is told; see UpdateRule.
struct UpdateSettings {
  UpdateKind kind;
  double learning_rate, beta1, beta2, eps, weight_decay, momentum;
  bool nesterov;
  double gradient_scale;
  int64_t step;  // of this update, counted from 1
};

// Updates the weights by their gradients, which become zero. `first` and `second` are empty where the kind does
// without. Throws Error(kValue) unless all lists fit each other, or as Pool::run_teams does.
void update_weights(Pool& pool, const Kernels& kernels, const UpdateSettings& settings, const Tensors& weights,
                    const Tensors& gradients, const Tensors& first, const Tensors& second);

}  // namespace weft
