// Any 64-bit machine: 4 lanes by the compiler's vector extension, and no fused multiply-add.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

typedef float F32 __attribute__((vector_size(16)));
typedef int32_t I32 __attribute__((vector_size(16)));
constexpr int kLanes = 4;

static inline F32 zero() { return F32{0.0f, 0.0f, 0.0f, 0.0f}; }
static inline F32 broadcast(float value) { return F32{value, value, value, value}; }
static inline F32 load(const float* from) {
  F32 value;
  __builtin_memcpy(&value, from, sizeof(value));
  return value;
}
static inline void store(float* to, F32 value) { __builtin_memcpy(to, &value, sizeof(value)); }
static inline void store_streaming(float* to, F32 value) { store(to, value); }
static inline void finish_streaming() {}
static inline F32 load_partial(const float* from, int64_t count) {
  F32 value = zero();
  for (int64_t lane = 0; lane < count && lane < kLanes; ++lane) value[lane] = from[lane];
  return value;
}
static inline void store_partial(float* to, F32 value, int64_t count) {
  for (int64_t lane = 0; lane < count && lane < kLanes; ++lane) to[lane] = value[lane];
}

static inline F32 add(F32 a, F32 b) { return a + b; }
static inline F32 sub(F32 a, F32 b) { return a - b; }
static inline F32 mul(F32 a, F32 b) { return a * b; }
static inline F32 div(F32 a, F32 b) { return a / b; }
static inline F32 max(F32 a, F32 b) { return a > b ? a : b; }
static inline F32 min(F32 a, F32 b) { return a < b ? a : b; }
static inline F32 sqrt(F32 a) {
  return F32{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
// Rounds twice: an FMA without the instruction would be a slow library call.
static inline F32 fma(F32 a, F32 b, F32 c) { return a * b + c; }

static inline float bits_to_f32(uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}
static inline uint32_t f32_to_bits(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  return bits;
}
// Halves are moved into the range of float32 by one exact multiplication, subnormals included.
static inline float f16_to_f32(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
  if (magnitude >= 0x0f800000u) return bits_to_f32(sign | magnitude | 0x7f800000u);
  return bits_to_f32(sign | f32_to_bits(bits_to_f32(magnitude) * bits_to_f32(0x77800000u)));
}
static inline uint16_t f32_to_f16(float value) {
  const uint32_t bits = f32_to_bits(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);
  if (magnitude >= 0x47800000u) return static_cast<uint16_t>(sign | 0x7c00u);
  if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 aligns the last place at 2^-24 and rounds to even
    const float aligned = bits_to_f32(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (f32_to_bits(aligned) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0x0fffu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}
static inline F32 load_f16(const uint16_t* from) {
  return F32{f16_to_f32(from[0]), f16_to_f32(from[1]), f16_to_f32(from[2]), f16_to_f32(from[3])};
}
static inline void store_f16(uint16_t* to, F32 value) {
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = f32_to_f16(value[lane]);
}
static inline F32 load_i16(const int16_t* from) {
  return F32{static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]),
             static_cast<float>(from[3])};
}
static inline F32 load_bf16(const uint16_t* from) {
  F32 value;
  for (int lane = 0; lane < kLanes; ++lane) value[lane] = bits_to_f32(static_cast<uint32_t>(from[lane]) << 16);
  return value;
}

static inline void store_bf16(uint16_t* to, F32 value) {
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t bits = f32_to_bits(value[lane]);
    const bool is_nan = (bits & 0x7fffffffu) > 0x7f800000u;
    to[lane] = static_cast<uint16_t>((is_nan ? bits | 0x400000u : bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
  }
}

// Adding and taking away 1.5 * 2^23 rounds to the nearest integer, ties to even.
static inline F32 round_nearest(F32 a) {
  const F32 magic = broadcast(12582912.0f);
  return (a + magic) - magic;
}
static inline F32 exp2_integral(F32 n) {
  const I32 biased = __builtin_convertvector(n, I32) + 127;
  const I32 shifted = biased << 23;
  F32 value;
  __builtin_memcpy(&value, &shifted, sizeof(value));
  return value;
}

static inline float reduce_add(F32 a) { return (a[0] + a[2]) + (a[1] + a[3]); }
static inline float reduce_max(F32 a) {
  const float low = a[0] > a[2] ? a[0] : a[2];
  const float high = a[1] > a[3] ? a[1] : a[3];
  return low > high ? low : high;
}

static inline F32 where_at_least(F32 a, F32 b, F32 value) { return a >= b ? value : zero(); }

static inline uint32_t lanes_greater(F32 a, F32 b) {
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= static_cast<uint32_t>(a[lane] > b[lane]) << lane;
  return bits;
}
static inline uint32_t lanes_at_least(F32 a, F32 b) {
  uint32_t bits = 0;
  for (int lane = 0; lane < kLanes; ++lane) bits |= static_cast<uint32_t>(a[lane] >= b[lane]) << lane;
  return bits;
}

}  // namespace weft::kernels::WEFT_KERNELS
