// AVX2 + FMA + F16C: 8 lanes of float32.
#pragma once

#include <immintrin.h>

namespace weft::kernels::WEFT_KERNELS {

using F32 = __m256;
using I32 = __m256i;
constexpr int kLanes = 8;

static inline F32 zero() { return _mm256_setzero_ps(); }
static inline F32 broadcast(float value) { return _mm256_set1_ps(value); }
static inline F32 load(const float* from) { return _mm256_loadu_ps(from); }
static inline void store(float* to, F32 value) { _mm256_storeu_ps(to, value); }
// Past the caches, to an aligned address; finish_streaming() before others may read it.
static inline void store_streaming(float* to, F32 value) { _mm256_stream_ps(to, value); }
static inline void finish_streaming() { _mm_sfence(); }

static inline I32 partial_mask(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline F32 load_partial(const float* from, int64_t count) {
  return _mm256_maskload_ps(from, partial_mask(count));
}
// A masked store takes about 20 cycles on some processors: only where lanes are left out.
static inline void store_partial(float* to, F32 value, int64_t count) {
  if (count >= kLanes) return _mm256_storeu_ps(to, value);
  _mm256_maskstore_ps(to, partial_mask(count), value);
}

static inline F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
static inline F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
static inline F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
static inline F32 div(F32 a, F32 b) { return _mm256_div_ps(a, b); }
static inline F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
static inline F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
static inline F32 sqrt(F32 a) { return _mm256_sqrt_ps(a); }
static inline F32 fma(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }

static inline F32 load_f16(const uint16_t* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
static inline void store_f16(uint16_t* to, F32 value) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(value, _MM_FROUND_TO_NEAREST_INT));
}
static inline F32 load_i16(const int16_t* from) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}
static inline F32 load_bf16(const uint16_t* from) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

static inline void store_bf16(uint16_t* to, F32 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
  const __m256i is_nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i half = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, is_nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(half, half), 0x08);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(packed));
}

// Round to the nearest integer, ties to even, and 2^n for an integral n in [-126, 127].
static inline F32 round_nearest(F32 a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline F32 exp2_integral(F32 n) {
  const I32 biased = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(biased, 23));
}

static inline float reduce_add(F32 a) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}
static inline float reduce_max(F32 a) {
  __m128 top = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  top = _mm_max_ps(top, _mm_movehl_ps(top, top));
  return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

static inline F32 where_at_least(F32 a, F32 b, F32 value) {
  return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ), value);
}

static inline uint32_t lanes_greater(F32 a, F32 b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ)));
}
static inline uint32_t lanes_at_least(F32 a, F32 b) {
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}

}  // namespace weft::kernels::WEFT_KERNELS
