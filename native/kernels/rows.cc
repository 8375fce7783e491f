#include "kernels/rows.h"

#include <string.h>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/norms.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

void add_row(const float* a, const float* b, float* out, int64_t columns) {
  each_vector(columns, [&](int64_t i, auto vector) {
    vector.store(out + i, add(vector.load(a + i), vector.load(b + i)));
  });
}

template <class Element, class Result>
void silu_gate_row(const Element* x, Result* out, int64_t features) {
  each_vector(features, [&](int64_t i, auto vector) {
    vector.store(out + i, mul(silu(vector.load(x + i)), vector.load(x + features + i)));
  });
}

void gelu_tanh_row(const float* x, float* out, int64_t columns) {
  each_vector(columns, [&](int64_t i, auto vector) { vector.store(out + i, gelu_tanh(vector.load(x + i))); });
}

void gelu_erf_row(const float* x, float* out, int64_t columns) {
  each_vector(columns, [&](int64_t i, auto vector) { vector.store(out + i, gelu_erf(vector.load(x + i))); });
}

// sin and cos on [-pi/4, pi/4] by the polynomials of Cephes sinf and cosf.
inline F32 sin_quarter(F32 x) {
  const F32 square = mul(x, x);
  F32 p = broadcast(-1.9515295891e-4f);
  p = fma(p, square, broadcast(8.3321608736e-3f));
  p = fma(p, square, broadcast(-1.6666654611e-1f));
  return fma(mul(p, square), x, x);
}
inline F32 cos_quarter(F32 x) {
  const F32 square = mul(x, x);
  F32 p = broadcast(2.443315711809948e-5f);
  p = fma(p, square, broadcast(-1.388731625493765e-3f));
  p = fma(p, square, broadcast(4.166664568298827e-2f));
  return fma(mul(square, square), p, fma(square, broadcast(-0.5f), broadcast(1.0f)));
}

// A whole turn is 2^32; the nearest quarter turn is taken away, and put back by a swap of sign and place.
void rotary_angles(int64_t position, const uint64_t* turns, int64_t count, float scale, float* cosines, float* sines) {
  static const float kQuarterCosine[4] = {1.0f, 0.0f, -1.0f, 0.0f};
  static const float kQuarterSine[4] = {0.0f, 1.0f, 0.0f, -1.0f};
  const F32 radians = broadcast(1.4629180792671596e-9f);  // 2 pi / 2^32
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t lanes = count - i < kLanes ? count - i : kLanes;
    float rest[kLanes] = {}, quarter_cosine[kLanes] = {}, quarter_sine[kLanes] = {};
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const uint32_t turn = static_cast<uint32_t>((static_cast<uint64_t>(position) * turns[i + lane]) >> 32);
      const uint32_t quarter = (turn + 0x20000000u) >> 30;
      rest[lane] = static_cast<float>(static_cast<int32_t>(turn - (quarter << 30)));
      quarter_cosine[lane] = kQuarterCosine[quarter] * scale;
      quarter_sine[lane] = kQuarterSine[quarter] * scale;
    }
    const F32 angle = mul(load(rest), radians);
    const F32 sine = sin_quarter(angle), cosine = cos_quarter(angle);
    const F32 qc = load(quarter_cosine), qs = load(quarter_sine);
    store_partial(cosines + i, sub(mul(cosine, qc), mul(sine, qs)), lanes);
    store_partial(sines + i, add(mul(sine, qc), mul(cosine, qs)), lanes);
  }
}

void rotary_row(const float* x, float* out, const float* cosines, const float* sines, int64_t heads, int64_t head_dim,
                int64_t rotary_dim) {
  const int64_t half = rotary_dim / 2;
  for (int64_t head = 0; head < heads; ++head, x += head_dim, out += head_dim) {
    each_vector(half, [&](int64_t i, auto vector) {
      const F32 a = vector.load(x + i), b = vector.load(x + half + i);
      const F32 cosine = vector.load(cosines + i), sine = vector.load(sines + i);
      vector.store(out + i, sub(mul(a, cosine), mul(b, sine)));
      vector.store(out + half + i, add(mul(b, cosine), mul(a, sine)));
    });
    if (out != x && rotary_dim < head_dim)
      memcpy(out + rotary_dim, x + rotary_dim, (head_dim - rotary_dim) * sizeof(float));
  }
}

}  // namespace

const RowKernels kRows = {rms_norm_row,
                          layer_norm_row,
                          add_row,
                          silu_gate_row<float, float>,
                          silu_gate_row<uint16_t, float>,
                          silu_gate_row<uint16_t, uint16_t>,
                          gelu_tanh_row,
                          gelu_erf_row,
                          rotary_angles,
                          rotary_row};

}  // namespace weft::kernels::WEFT_KERNELS
