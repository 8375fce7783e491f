// Gradients of the norms of one row. Included by row_gradients.cc only, after kernels/norms.h.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

// The sums over a row of g * n and of g, where g = d_out * weight and n = x - center.
struct GradientSums {
  float products, values;
};

static inline GradientSums gradient_sums(const float* x, const float* weight, const float* d_out, int64_t columns,
                                         float center) {
  RowSum products, values;
  const F32 shift = broadcast(center);
  int64_t i = 0;
  for (; i + 4 * kLanes <= columns; i += 4 * kLanes) {
    for (int chain = 0; chain < 4; ++chain) {
      const int64_t at = i + chain * kLanes;
      const F32 g = mul(load(d_out + at), load(weight + at));
      products.chains[chain] = fma(g, sub(load(x + at), shift), products.chains[chain]);
      values.chains[chain] = add(values.chains[chain], g);
    }
  }
  for (int chain = 0; i < columns; i += kLanes, ++chain) {
    const int64_t count = columns - i;
    const F32 g = mul(load_partial(d_out + i, count), load_partial(weight + i, count));
    products.chains[chain] = fma(g, sub(load_partial(x + i, count), shift), products.chains[chain]);
    values.chains[chain] = add(values.chains[chain], g);
  }
  return {products.total(), values.total()};
}

// What a row's gradient is made of: n = (x - center) * scale, d_x = scale * (g - shift - n * slope).
struct NormGradient {
  float center, scale, shift, slope;
};

static inline void norm_gradient(const NormGradient& norm, const float* x, const float* weight, const float* d_out,
                                 const float* residual, float* d_x, float* d_weight, float* d_bias, int64_t columns) {
  const F32 center = broadcast(norm.center), scale = broadcast(norm.scale);
  const F32 shift = broadcast(norm.shift), slope = broadcast(-norm.slope);
  each_vector(columns, [&](int64_t i, auto vector) {
    const F32 d = vector.load(d_out + i);
    const F32 normal = mul(sub(vector.load(x + i), center), scale);
    const F32 inner = fma(normal, slope, sub(mul(d, vector.load(weight + i)), shift));
    vector.store(d_x + i, fma(scale, inner, residual ? vector.load(residual + i) : zero()));
    if (d_weight) vector.store(d_weight + i, fma(d, normal, vector.load(d_weight + i)));
    if (d_bias) vector.store(d_bias + i, add(d, vector.load(d_bias + i)));
  });
}

static inline void rms_norm_gradient_row(const float* x, const float* weight, const float* d_out, const float* residual,
                                         float* d_x, float* d_weight, int64_t columns, float eps) {
  const float count = static_cast<float>(columns);
  const float scale = 1.0f / __builtin_sqrtf(sum_of_squares(x, columns, 0.0f) / count + eps);
  const float products = gradient_sums(x, weight, d_out, columns, 0.0f).products;
  norm_gradient({0.0f, scale, 0.0f, products * scale / count}, x, weight, d_out, residual, d_x, d_weight, nullptr,
                columns);
}

static inline void layer_norm_gradient_row(const float* x, const float* weight, const float* d_out,
                                           const float* residual, float* d_x, float* d_weight, float* d_bias,
                                           int64_t columns, float eps) {
  const float count = static_cast<float>(columns);
  const float mean = sum_of(x, columns) / count;
  const float scale = 1.0f / __builtin_sqrtf(sum_of_squares(x, columns, mean) / count + eps);
  const GradientSums sums = gradient_sums(x, weight, d_out, columns, mean);
  norm_gradient({mean, scale, sums.values / count, sums.products * scale / count}, x, weight, d_out, residual, d_x,
                d_weight, d_bias, columns);
}

}  // namespace weft::kernels::WEFT_KERNELS
