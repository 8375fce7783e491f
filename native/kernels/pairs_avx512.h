// Pairs of bfloat16 in words of 32 bits, as the dot instruction of AVX-512 takes them: the element with the lower
// index in the lower half. Included by AVX-512 kernels only, after kernels/simd.h.
#pragma once

#include <math.h>
#include <string.h>

namespace weft::kernels::WEFT_KERNELS {

static inline F32 broadcast_word(const int32_t* from) { return _mm512_castsi512_ps(_mm512_set1_epi32(*from)); }
static inline F32 load_words(const int32_t* from) { return load(reinterpret_cast<const float*>(from)); }
static inline F32 load_words(const int32_t* from, int64_t count) {
  return load_partial(reinterpret_cast<const float*>(from), count);
}

#if defined(WEFT_EMULATE_AVX512)

// sum + a * b over both elements of each pair.
static inline F32 dot_pairs(F32 sum, F32 a, F32 b) {
  const I32 high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const auto odd = [high](F32 x) { return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), high)); };
  const auto even = [](F32 x) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(x), 16)); };
  return add(add(sum, mul(odd(a), odd(b))), mul(even(a), even(b)));
}

static inline F32 times_power_of_2(F32 value, F32 n) {
  float from[16], power[16];
  store(from, value);
  store(power, n);
  for (int i = 0; i < 16; ++i) {
    const float limited = power[i] < -300.0f ? -300.0f : power[i];
    from[i] = isnan(limited) ? limited : ldexpf(from[i], static_cast<int>(limited));
  }
  return load(from);
}

#else

// In assembly, because gcc 12 spills sums of its intrinsic.
static inline F32 dot_pairs(F32 sum, F32 a, F32 b) {
  asm("vdpbf16ps %[b], %[a], %[sum]" : [sum] "+v"(sum) : [a] "v"(a), [b] "v"(b));
  return sum;
}

static inline F32 times_power_of_2(F32 value, F32 n) { return _mm512_scalef_ps(value, n); }

#endif

// 2^x for x <= 127, exactly 1 for 0, within 3e-6 of itself otherwise (a least-maximum fit of degree 4 on
// [-1/2, 1/2]): a hundredth of what rounding to bfloat16 then adds. A NaN stays one.
static inline F32 exp2_of_bf16(F32 x) {
  const F32 n = round_nearest(x);
  const F32 f = sub(x, n);
  F32 p = broadcast(9.5828531689e-3f);
  p = fma(p, f, broadcast(5.5906425036e-2f));
  p = fma(p, f, broadcast(2.4024098611e-1f));
  p = fma(p, f, broadcast(6.9312419337e-1f));
  p = fma(p, f, broadcast(1.0f));
  return times_power_of_2(p, n);
}

}  // namespace weft::kernels::WEFT_KERNELS
