// The optimizer's native half for Python.
#include "exec/optimizer.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "base/error.h"
#include "bind/bind.h"
#include "bind/gil.h"
#include "isa/isa.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {

namespace {

UpdateKind kind_of(const std::string& name) {
  if (name == "sgd") return UpdateKind::kSgd;
  if (name == "adam") return UpdateKind::kAdam;
  if (name == "adamw") return UpdateKind::kAdamW;
  throw Error(ErrorKind::kValue, "expected an optimizer among sgd, adam and adamw, got '" + name + "'");
}

}  // namespace

void bind_optimizer(nb::module_& module) {
  module.def(
      "gradient_norm",
      [](Pool& pool, const Tensors& gradients) {
        GilReleased release;
        return gradient_norm(pool, default_kernels(), gradients);
      },
      "pool"_a, "gradients"_a, "Square root of the sum of all squares; the same bits on any number of threads.");
  module.def(
      "update_weights",
      [](Pool& pool, const std::string& kind, const Tensors& weights, const Tensors& gradients, const Tensors& first,
         const Tensors& second, double learning_rate, double beta1, double beta2, double eps, double weight_decay,
         double momentum, bool nesterov, double gradient_scale, int64_t step) {
        const UpdateSettings settings = {kind_of(kind), learning_rate, beta1, beta2, eps, weight_decay, momentum,
                                         nesterov, gradient_scale, step};
        GilReleased release;
        update_weights(pool, default_kernels(), settings, weights, gradients, first, second);
      },
      "pool"_a, "kind"_a, "weights"_a, "gradients"_a, "first"_a, "second"_a, "learning_rate"_a, "beta1"_a, "beta2"_a,
      "eps"_a, "weight_decay"_a, "momentum"_a, "nesterov"_a, "gradient_scale"_a, "step"_a,
      "One update in place, on all threads of the pool; the gradients become zero. Raises ConfigError.");
}

}  // namespace weft
