#include "kernels/row_gradients.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/norms.h"

#include "kernels/norm_gradients.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

// out[i] = function(a[i])
template <typename Function>
inline void map_row(const float* a, float* out, int64_t columns, const Function& function) {
  each_vector(columns, [&](int64_t i, auto vector) { vector.store(out + i, function(vector.load(a + i))); });
}

// out[i] = function(a[i], b[i])
template <typename Function>
inline void map_rows(const float* a, const float* b, float* out, int64_t columns, const Function& function) {
  each_vector(columns, [&](int64_t i, auto vector) {
    vector.store(out + i, function(vector.load(a + i), vector.load(b + i)));
  });
}

template <class Element, class Result>
void silu_gate_gradient_row(const Element* x, const float* d_out, Result* d_x, int64_t features) {
  const F32 one = broadcast(1.0f);
  each_vector(features, [&](int64_t i, auto vector) {
    const F32 gate = vector.load(x + i), up = vector.load(x + features + i), d = vector.load(d_out + i);
    const F32 y = sigmoid(gate);
    const F32 slope = mul(y, fma(gate, sub(one, y), one));
    vector.store(d_x + i, mul(mul(d, up), slope));
    vector.store(d_x + features + i, mul(d, mul(gate, y)));
  });
}

// gelu(x) = x * y with y = 1 / (1 + e^-2u), u the polynomial: y + x * y * (1 - y) * 2 u', and 1 - y = y e^-2u.
inline F32 gelu_tanh_slope(F32 x) {
  const F32 value = max(broadcast(-1e4f), min(broadcast(1e4f), x));
  const F32 square = mul(value, value), twice_root = broadcast(2 * 0.7978845608f), one = broadcast(1.0f);
  const F32 e = exp(mul(mul(sub(zero(), twice_root), value), fma(broadcast(0.044715f), square, one)));
  const F32 y = div(one, add(one, e));
  const F32 inner_slope = mul(twice_root, fma(broadcast(3 * 0.044715f), square, one));
  return fma(mul(value, inner_slope), mul(y, mul(y, e)), y);
}

// The normal distribution function + x * its density
inline F32 gelu_erf_slope(F32 x) {
  const F32 size = min(broadcast(16.0f), max(x, sub(zero(), x)));
  const F32 density = mul(broadcast(0.3989422804f), exp(mul(broadcast(-0.5f), mul(size, size))));
  const F32 tail = normal_tail(size);
  const F32 below = sub(broadcast(1.0f), tail);
  const F32 distribution = add(where_at_least(x, zero(), sub(below, tail)), tail);
  const F32 bounded = max(broadcast(-16.0f), min(broadcast(16.0f), x));
  return fma(bounded, density, distribution);
}

void gelu_tanh_gradient_row(const float* x, const float* d_out, float* d_x, int64_t columns) {
  map_rows(x, d_out, d_x, columns, [](F32 value, F32 d) { return mul(d, gelu_tanh_slope(value)); });
}

void gelu_erf_gradient_row(const float* x, const float* d_out, float* d_x, int64_t columns) {
  map_rows(x, d_out, d_x, columns, [](F32 value, F32 d) { return mul(d, gelu_erf_slope(value)); });
}

void tanh_row(const float* x, float* out, int64_t columns) {
  map_row(x, out, columns, [](F32 value) { return tanh(value); });
}

void tanh_gradient_row(const float* out, const float* d_out, float* d_x, int64_t columns) {
  const F32 one = broadcast(1.0f);
  map_rows(out, d_out, d_x, columns, [one](F32 y, F32 d) { return mul(d, mul(sub(one, y), add(one, y))); });
}

// The order of the sum is that of sum_of_squares.
float squared_error_row(const float* x, const float* targets, float weight, float* d_x, int64_t columns) {
  const F32 slope = broadcast(weight * 2.0f / static_cast<float>(columns));
  RowSum sum;
  each_vector(columns, [&](int64_t i, auto vector) {
    const F32 difference = sub(vector.load(x + i), vector.load(targets + i));
    F32& chain = sum.chains[i / kLanes % 4];
    chain = fma(difference, difference, chain);
    vector.store(d_x + i, mul(slope, difference));
  });
  return sum.total() / static_cast<float>(columns);
}

// Philox4x32-10 (see base/random.h) in plain integers, sixteen positions side by side: the compiler makes vectors of the loops.
constexpr int kDraws = 16;

inline void draw_words(uint64_t seed, uint64_t stream, uint64_t position, uint32_t* words) {
  uint32_t c0[kDraws], c1[kDraws], c2[kDraws], c3[kDraws];
  for (int i = 0; i < kDraws; ++i) {
    c0[i] = static_cast<uint32_t>(position + i);
    c1[i] = static_cast<uint32_t>((position + i) >> 32);
    c2[i] = static_cast<uint32_t>(stream);
    c3[i] = static_cast<uint32_t>(stream >> 32);
  }
  uint32_t key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9u, key1 += 0xBB67AE85u) {
    for (int i = 0; i < kDraws; ++i) {
      const uint64_t product0 = uint64_t{0xD2511F53u} * c0[i], product1 = uint64_t{0xCD9E8D57u} * c2[i];
      c0[i] = static_cast<uint32_t>(product1 >> 32) ^ c1[i] ^ key0;
      c1[i] = static_cast<uint32_t>(product1);
      c2[i] = static_cast<uint32_t>(product0 >> 32) ^ c3[i] ^ key1;
      c3[i] = static_cast<uint32_t>(product0);
    }
  }
  for (int i = 0; i < kDraws; ++i) words[i] = c0[i];
}

void dropout_row(const float* x, float* out, int64_t columns, uint64_t seed, uint64_t stream, uint64_t position,
                 uint32_t threshold, float scale) {
  for (int64_t first = 0; first < columns; first += kDraws) {
    uint32_t words[kDraws];
    draw_words(seed, stream, position + static_cast<uint64_t>(first), words);
    const int64_t count = columns - first < kDraws ? columns - first : kDraws;
    for (int64_t i = 0; i < count; ++i) out[first + i] = words[i] >> 9 >= threshold ? x[first + i] * scale : 0.0f;
  }
}

}  // namespace

const RowGradientKernels kRowGradients = {
    rms_norm_gradient_row,
    layer_norm_gradient_row,
    silu_gate_gradient_row<float, float>,
    silu_gate_gradient_row<uint16_t, float>,
    silu_gate_gradient_row<uint16_t, uint16_t>,
    gelu_tanh_gradient_row,
    gelu_erf_gradient_row,
    tanh_row,
    tanh_gradient_row,
    squared_error_row,
    dropout_row};

}  // namespace weft::kernels::WEFT_KERNELS
