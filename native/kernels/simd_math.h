// Functions built from the vector types, the same source on every instruction set.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

// The first `count` lanes; the others are zero, or untouched.
static inline F32 load_bf16_partial(const uint16_t* from, int64_t count) {
  uint16_t values[kLanes] = {};
  for (int64_t lane = 0; lane < count && lane < kLanes; ++lane) values[lane] = from[lane];
  return load_bf16(values);
}
static inline void store_bf16_partial(uint16_t* to, F32 value, int64_t count) {
  uint16_t values[kLanes];
  store_bf16(values, value);
  for (int64_t lane = 0; lane < count && lane < kLanes; ++lane) to[lane] = values[lane];
}

// e^x by Cody-Waite reduction to |r| <= ln(2)/2 and a polynomial of degree 6 (Cephes expf); about 1 ulp.
// Exactly 0 where the result would be below the smallest normal number; above 88 it saturates. A NaN stays
// one: max and min return their second operand when the two do not compare.
static inline F32 exp(F32 x) {
  const F32 clamped = min(broadcast(88.0f), max(broadcast(-88.0f), x));
  const F32 n = round_nearest(mul(clamped, broadcast(1.44269504f)));
  F32 r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  F32 p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  p = add(fma(mul(r, r), p, r), broadcast(1.0f));
  return mul(p, exp2_integral(n));
}

static inline F32 sigmoid(F32 x) {
  return div(broadcast(1.0f), add(broadcast(1.0f), exp(sub(zero(), x))));
}
static inline F32 silu(F32 x) { return mul(x, sigmoid(x)); }

// e^x - 1, its relative error small beside 0 too; -1 far below 0, and up to x = 80.
static inline F32 expm1(F32 x) {
  const F32 clamped = min(broadcast(80.0f), max(broadcast(-80.0f), x));
  const F32 n = round_nearest(mul(clamped, broadcast(1.44269504f)));
  F32 r = fma(n, broadcast(-0.693359375f), clamped);
  r = fma(n, broadcast(2.12194440e-4f), r);
  F32 p = broadcast(1.9875691500e-4f);
  p = fma(p, r, broadcast(1.3981999507e-3f));
  p = fma(p, r, broadcast(8.3334519073e-3f));
  p = fma(p, r, broadcast(4.1665795894e-2f));
  p = fma(p, r, broadcast(1.6666665459e-1f));
  p = fma(p, r, broadcast(5.0000001201e-1f));
  const F32 power = exp2_integral(n);
  return fma(power, fma(mul(r, r), p, r), sub(power, broadcast(1.0f)));
}

// tanh(x) = (e^(2x) - 1) / (e^(2x) + 1).
static inline F32 tanh(F32 x) {
  const F32 e = expm1(add(x, x));
  return div(e, add(e, broadcast(2.0f)));
}

// GELU with the tanh approximation of Hendrycks and Gimpel (2016), equation 2.
static inline F32 gelu_tanh(F32 x) {
  const F32 cube = mul(mul(x, x), x);
  const F32 inner = mul(broadcast(0.7978845608f), fma(broadcast(0.044715f), cube, x));
  return mul(mul(broadcast(0.5f), x), add(broadcast(1.0f), tanh(inner)));
}

// 2^x, exactly 1 for 0 and exactly 0 below -126.5, within 1e-7 of it otherwise (a least-maximum fit of
// degree 5 on [-1/2, 1/2]); for x <= 127. A NaN stays one.
static inline F32 exp2(F32 x) {
  const F32 clamped = max(broadcast(-127.0f), x);
  const F32 n = round_nearest(clamped);
  const F32 f = sub(clamped, n);
  F32 p = broadcast(1.3264727253e-3f);
  p = fma(p, f, broadcast(9.6715127858e-3f));
  p = fma(p, f, broadcast(5.5507337445e-2f));
  p = fma(p, f, broadcast(2.4022242083e-1f));
  p = fma(p, f, broadcast(6.9314697760e-1f));
  p = fma(p, f, broadcast(1.0f));
  return mul(p, exp2_integral(n));
}

// erfc(size / sqrt(2)) / 2 for a size in [0, 16]: its logarithm is a polynomial that keeps falling past the range of
// its fit; absolute error below 1e-7.
static inline F32 normal_tail(F32 size) {
  F32 p = broadcast(-2.417890806e-7f);
  p = fma(p, size, broadcast(3.985797358e-6f));
  p = fma(p, size, broadcast(-2.812751532e-6f));
  p = fma(p, size, broadcast(-4.448987395e-4f));
  p = fma(p, size, broadcast(5.423599663e-3f));
  p = fma(p, size, broadcast(-3.681099862e-2f));
  p = fma(p, size, broadcast(-3.181363324e-1f));
  p = fma(p, size, broadcast(-7.979072516e-1f));
  return mul(broadcast(0.5f), exp(mul(p, size)));
}

// GELU: x / 2 * (1 + erf(x / sqrt(2))) = max(x, 0) - |x| * normal_tail(|x|); absolute error below 1e-7 + 1 ulp.
static inline F32 gelu_erf(F32 x) {
  const F32 size = min(broadcast(16.0f), max(x, sub(zero(), x)));
  return sub(max(x, zero()), mul(size, normal_tail(size)));
}

}  // namespace weft::kernels::WEFT_KERNELS
