// AVX-512 F, BW, DQ, VL, VNNI, BF16: 16 lanes of float32.
#pragma once

#if defined(WEFT_EMULATE_AVX512)  // tests on machines without it: the same source over SIMDe
#include "kernels/avx512_emulated.h"
#else
// gcc 12 sees its own header's undefined vectors as uninitialised ones (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#include <immintrin.h>
#endif

namespace weft::kernels::WEFT_KERNELS {

using F32 = __m512;
using I32 = __m512i;
constexpr int kLanes = 16;

static inline F32 zero() { return _mm512_setzero_ps(); }
static inline F32 broadcast(float value) { return _mm512_set1_ps(value); }
static inline F32 load(const float* from) { return _mm512_loadu_ps(from); }
static inline void store(float* to, F32 value) { _mm512_storeu_ps(to, value); }
// Past the caches, to an aligned address; finish_streaming() before others may read it.
#if defined(WEFT_EMULATE_AVX512)
static inline void store_streaming(float* to, F32 value) { store(to, value); }
static inline void finish_streaming() {}
#else
static inline void store_streaming(float* to, F32 value) { _mm512_stream_ps(to, value); }
static inline void finish_streaming() { _mm_sfence(); }
#endif

static inline __mmask16 partial_mask(int64_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xffff)
                     : static_cast<__mmask16>((1u << (count < 0 ? 0 : count)) - 1u);
}
static inline F32 load_partial(const float* from, int64_t count) {
  return _mm512_maskz_loadu_ps(partial_mask(count), from);
}
static inline void store_partial(float* to, F32 value, int64_t count) {
  _mm512_mask_storeu_ps(to, partial_mask(count), value);
}

static inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
static inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
static inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
static inline F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
static inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
static inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
static inline F32 sqrt(F32 a) { return _mm512_sqrt_ps(a); }
static inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }

static inline F32 load_f16(const uint16_t* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
static inline void store_f16(uint16_t* to, F32 value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}
static inline F32 load_i16(const int16_t* from) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}
static inline F32 load_bf16(const uint16_t* from) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

#if defined(WEFT_EMULATE_AVX512)
static inline void store_bf16(uint16_t* to, F32 value) {
  uint32_t bits[16];
  __builtin_memcpy(bits, &value, sizeof(bits));
  for (int i = 0; i < 16; ++i) {
    const bool is_nan = (bits[i] & 0x7fffffffu) > 0x7f800000u;
    to[i] = static_cast<uint16_t>((is_nan ? bits[i] | 0x400000u : bits[i] + 0x7fffu + ((bits[i] >> 16) & 1u)) >> 16);
  }
}
#else
static inline void store_bf16(uint16_t* to, F32 value) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
}
#endif

static inline F32 round_nearest(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline F32 exp2_integral(F32 n) {
  const I32 biased = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
  return _mm512_castsi512_ps(_mm512_slli_epi32(biased, 23));
}

static inline float reduce_add(F32 a) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
static inline float reduce_max(F32 a) {
  const __m256 half = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

static inline F32 where_at_least(F32 a, F32 b, F32 value) {
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_GE_OQ), value);
}

static inline uint32_t lanes_greater(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
static inline uint32_t lanes_at_least(F32 a, F32 b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }

}  // namespace weft::kernels::WEFT_KERNELS
