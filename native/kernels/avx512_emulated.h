// AVX-512 for tests on machines without it: SIMDe, and in plain C++ the few intrinsics that its releases lack. To be
// included inside no namespace; the functions hide the compiler's own, which need the instructions.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

#include <math.h>
#include <stdint.h>
#include <string.h>

#undef _mm512_cvtepi16_epi32
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtps_ph
#undef _mm512_extractf32x8_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_maskz_loadu_ps
#undef _mm512_reduce_add_epi32
#undef _mm512_reduce_max_epi32
#undef _mm512_shuffle_epi32
#undef _mm512_shuffle_f32x4
#undef _mm512_shuffle_i64x2
#undef _mm512_srai_epi32
#undef _mm512_srav_epi32
#undef _mm512_stream_ps

namespace weft::kernels::WEFT_KERNELS {

// The sixteen lanes in memory, as one type or another.
template <class Value>
struct Lanes {
  Value at[16];
  Lanes() = default;
  template <class Vector>
  explicit Lanes(Vector from) { memcpy(at, &from, sizeof(at)); }
  template <class Vector>
  Vector as() const {
    Vector to;
    static_assert(sizeof(to) == sizeof(at));
    memcpy(&to, at, sizeof(at));
    return to;
  }
};

static inline __m512i _mm512_cvtepi16_epi32(__m256i a) {
  const Lanes<int16_t> from(a);
  Lanes<int32_t> to;
  for (int i = 0; i < 16; ++i) to.at[i] = from.at[i];
  return to.as<__m512i>();
}

static inline __m512 _mm512_cvtepi32_ps(__m512i a) {
  const Lanes<int32_t> from(a);
  Lanes<float> to;
  for (int i = 0; i < 16; ++i) to.at[i] = static_cast<float>(from.at[i]);
  return to.as<__m512>();
}

static inline __m512i _mm512_cvtepu16_epi32(__m256i a) {
  const Lanes<uint16_t> from(a);
  Lanes<int32_t> to;
  for (int i = 0; i < 16; ++i) to.at[i] = from.at[i];
  return to.as<__m512i>();
}

// To nearest even, as the processor's default mode has it; out of range and NaN give the lowest number.
static inline __m512i _mm512_cvtps_epi32(__m512 a) {
  const Lanes<float> from(a);
  Lanes<int32_t> to;
  for (int i = 0; i < 16; ++i) {
    const float value = nearbyintf(from.at[i]);
    to.at[i] = value >= -0x1p31f && value < 0x1p31f ? static_cast<int32_t>(value) : INT32_MIN;
  }
  return to.as<__m512i>();
}

// Both halves by F16C, which AVX2 machines have.
static inline __m512 _mm512_cvtph_ps(__m256i a) {
  Lanes<float> to;
  _mm256_storeu_ps(to.at, _mm256_cvtph_ps(_mm256_castsi256_si128(a)));
  _mm256_storeu_ps(to.at + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)));
  return to.as<__m512>();
}

static inline __m256i _mm512_cvtps_ph(__m512 a, int) {
  const Lanes<float> from(a);
  const __m128i low = _mm256_cvtps_ph(_mm256_loadu_ps(from.at), _MM_FROUND_TO_NEAREST_INT);
  const __m128i high = _mm256_cvtps_ph(_mm256_loadu_ps(from.at + 8), _MM_FROUND_TO_NEAREST_INT);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
}

static inline __m256 _mm512_extractf32x8_ps(__m512 a, int half) {
  const Lanes<float> from(a);
  return _mm256_loadu_ps(from.at + 8 * half);
}

// What the mask leaves out is neither read nor written.
static inline __m512 _mm512_maskz_loadu_ps(__mmask16 mask, const void* from) {
  Lanes<float> to = {};
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(&to.at[i], static_cast<const char*>(from) + 4 * i, 4);
  return to.as<__m512>();
}

static inline void _mm512_mask_storeu_ps(void* to, __mmask16 mask, __m512 a) {
  const Lanes<float> from(a);
  for (int i = 0; i < 16; ++i)
    if (mask >> i & 1) memcpy(static_cast<char*>(to) + 4 * i, &from.at[i], 4);
}

static inline int32_t _mm512_reduce_add_epi32(__m512i a) {
  const Lanes<int32_t> from(a);
  int32_t sum = 0;
  for (const int32_t value : from.at) sum += value;
  return sum;
}

static inline int32_t _mm512_reduce_max_epi32(__m512i a) {
  const Lanes<int32_t> from(a);
  int32_t most = from.at[0];
  for (const int32_t value : from.at) most = value > most ? value : most;
  return most;
}

// In each four lanes those that `order` names, two bits a lane.
static inline __m512i shuffle_in_fours(__m512i a, int order) {
  const Lanes<int32_t> from(a);
  Lanes<int32_t> to;
  for (int i = 0; i < 16; ++i) to.at[i] = from.at[(i & ~3) + (order >> 2 * (i & 3) & 3)];
  return to.as<__m512i>();
}

// A name of its own, since the compiler's is found by the type of the order.
#define _mm512_shuffle_epi32(a, order) shuffle_in_fours(a, order)

// Four lanes of `a` twice, then of `b` twice, as `order` names them, two bits each.
static inline __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int order) {
  const Lanes<float> low(a), high(b);
  Lanes<float> to;
  for (int i = 0; i < 16; ++i) to.at[i] = (i < 8 ? low : high).at[4 * (order >> 2 * (i / 4) & 3) + i % 4];
  return to.as<__m512>();
}

static inline __m512i _mm512_shuffle_i64x2(__m512i a, __m512i b, int order) {
  return Lanes<float>(_mm512_shuffle_f32x4(Lanes<float>(a).as<__m512>(), Lanes<float>(b).as<__m512>(), order))
      .as<__m512i>();
}

static inline void _mm512_stream_ps(void* to, __m512 a) { memcpy(to, &a, sizeof(a)); }

// Arithmetic shifts, each lane by its own count.
static inline __m512i _mm512_srav_epi32(__m512i a, __m512i count) {
  const Lanes<int32_t> from(a);
  const Lanes<uint32_t> by(count);
  Lanes<int32_t> to;
  for (int i = 0; i < 16; ++i) to.at[i] = from.at[i] >> (by.at[i] < 31 ? by.at[i] : 31);
  return to.as<__m512i>();
}

static inline __m512i _mm512_srai_epi32(__m512i a, unsigned count) {
  return _mm512_srav_epi32(a, _mm512_set1_epi32(static_cast<int32_t>(count)));
}

}  // namespace weft::kernels::WEFT_KERNELS
