#include "kernels/optimizer.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

// Sixteen chains, which the compiler puts in lanes.
double sum_of_squares(const float* x, int64_t count) {
  double sums[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int chain = 0; chain < 16; ++chain) {
      const double value = x[i + chain];
      sums[chain] += value * value;
    }
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

struct Sgd {
  F32 scale, decay, rate, momentum;
  bool has_momentum, nesterov;

  explicit Sgd(const UpdateRule& rule)
      : scale(broadcast(rule.gradient_scale)), decay(broadcast(rule.weight_decay)), rate(broadcast(rule.learning_rate)),
        momentum(broadcast(rule.momentum)), has_momentum(rule.momentum != 0.0f), nesterov(rule.nesterov) {}

  static constexpr bool kHasSecond = false;
  bool has_first() const { return has_momentum; }

  inline void apply(F32& weight, F32 gradient, F32& first, F32&) const {
    const F32 g = fma(decay, weight, mul(scale, gradient));
    F32 direction = g;
    if (has_momentum) {
      first = fma(momentum, first, g);
      direction = nesterov ? fma(momentum, first, g) : first;
    }
    weight = sub(weight, mul(rate, direction));
  }
};

template <bool kDecoupled>
struct Adam {
  F32 scale, decay, new_first, beta2, new_second, eps, step_size, second_scale;

  explicit Adam(const UpdateRule& rule)
      : scale(broadcast(rule.gradient_scale)), decay(broadcast(kDecoupled ? rule.keep : rule.weight_decay)),
        new_first(broadcast(1.0f - rule.beta1)), beta2(broadcast(rule.beta2)), new_second(broadcast(1.0f - rule.beta2)),
        eps(broadcast(rule.eps)), step_size(broadcast(rule.step_size)), second_scale(broadcast(rule.second_scale)) {}

  static constexpr bool kHasSecond = true;
  bool has_first() const { return true; }

  inline void apply(F32& weight, F32 gradient, F32& first, F32& second) const {
    F32 g = mul(scale, gradient);
    if constexpr (kDecoupled) {
      weight = mul(weight, decay);
    } else {
      g = fma(decay, weight, g);
    }
    first = fma(new_first, sub(g, first), first);
    second = fma(mul(new_second, g), g, mul(beta2, second));
    const F32 size = add(div(sqrt(second), second_scale), eps);
    weight = sub(weight, mul(step_size, div(first, size)));
  }
};

template <class Rule>
void update_all(const Rule& rule, float* weights, float* gradient, float* first, float* second, int64_t count) {
  const bool has_first = rule.has_first();
  constexpr int64_t kAhead = 512;  // lines that another core has are asked for in time, to be written
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t left = count - i;
    if (left >= kLanes) {
      __builtin_prefetch(weights + i + kAhead, 1);
      __builtin_prefetch(gradient + i + kAhead, 1);
      F32 w = load(weights + i), m = has_first ? load(first + i) : zero();
      F32 v = Rule::kHasSecond ? load(second + i) : zero();
      rule.apply(w, load(gradient + i), m, v);
      store(weights + i, w);
      store(gradient + i, zero());
      if (has_first) store(first + i, m);
      if (Rule::kHasSecond) store(second + i, v);
    } else {
      F32 w = load_partial(weights + i, left), m = has_first ? load_partial(first + i, left) : zero();
      F32 v = Rule::kHasSecond ? load_partial(second + i, left) : zero();
      rule.apply(w, load_partial(gradient + i, left), m, v);
      store_partial(weights + i, w, left);
      store_partial(gradient + i, zero(), left);
      if (has_first) store_partial(first + i, m, left);
      if (Rule::kHasSecond) store_partial(second + i, v, left);
    }
  }
}

void update(const UpdateRule* rule, float* weights, float* gradient, float* first, float* second, int64_t count) {
  switch (rule->kind) {
    case UpdateKind::kSgd: return update_all(Sgd(*rule), weights, gradient, first, second, count);
    case UpdateKind::kAdam: return update_all(Adam<false>(*rule), weights, gradient, first, second, count);
    case UpdateKind::kAdamW: return update_all(Adam<true>(*rule), weights, gradient, first, second, count);
  }
}

}  // namespace

const OptimizerKernels kOptimizer = {sum_of_squares, update};

}  // namespace weft::kernels::WEFT_KERNELS
