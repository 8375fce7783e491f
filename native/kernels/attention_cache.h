// Elements of the cache: storing a token, and blocks in float32. Included by attention.cc only, after
// kernels/simd.h.
#pragma once

#include <string.h>

namespace weft::kernels::WEFT_KERNELS {

constexpr int kTokens = 32;  // of a block

static inline F32 load_element(const float* from) { return load(from); }
static inline F32 load_element(const uint16_t* from) { return load_f16(from); }

constexpr float kLargestHalf = 65504.0f;
constexpr float kLargestFloat = 3.402823466e38f;
constexpr float kLargestBF16 = 3.389531390e38f;

static inline F32 limit(F32 value, float largest) { return max(broadcast(-largest), min(value, broadcast(largest))); }

static inline void store_limited(float* to, F32 value) { store(to, limit(value, kLargestFloat)); }
static inline void store_limited(uint16_t* to, F32 value) { store_f16(to, limit(value, kLargestHalf)); }

// One token in float32 or float16.
template <typename T>
static void write_elements(const float* key, const float* value, int64_t head_dim, int64_t offset, T* keys, T* values) {
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    const int64_t count = head_dim - d < kLanes ? head_dim - d : kLanes;
    T elements[kLanes];
    store_limited(elements, load_partial(key + d, count));
    for (int64_t lane = 0; lane < count; ++lane) keys[(d + lane) * kTokens + offset] = elements[lane];
    store_limited(elements, load_partial(value + d, count));
    memcpy(values + offset * head_dim + d, elements, static_cast<size_t>(count) * sizeof(T));
  }
}

// kLanes limited elements in bfloat16, each in the lower half of a word: to nearest even.
static inline void limited_bf16(const float* from, int64_t count, uint32_t* to) {
  uint32_t bits[kLanes];
  float limited[kLanes];
  store(limited, limit(load_partial(from, count), kLargestBF16));
  memcpy(bits, limited, sizeof(bits));
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = (bits[lane] + 0x7fffu + ((bits[lane] >> 16) & 1u)) >> 16;
}

// Every other half of the words at `to`.
static inline void store_halves(const uint32_t* halves, int64_t count, uint16_t* to) {
#if defined(WEFT_KERNELS_AVX512) && !defined(WEFT_EMULATE_AVX512)
  const __mmask32 even = 0x55555555u & (count >= kLanes ? 0xffffffffu : (1u << (2 * count)) - 1u);
  _mm512_mask_storeu_epi16(to, even, _mm512_loadu_si512(halves));
#else
  for (int64_t lane = 0; lane < count; ++lane) to[lane * 2] = static_cast<uint16_t>(halves[lane]);
#endif
}

static void write_pairs(const float* key, const float* value, int64_t head_dim, int64_t offset, uint16_t* keys,
                        uint16_t* values) {
  static_assert(kLanes % 2 == 0);
  values += offset / 2 * head_dim * 2 + offset % 2;
  for (int64_t d = 0; d < head_dim; d += kLanes) {
    const int64_t count = head_dim - d < kLanes ? head_dim - d : kLanes;
    uint32_t halves[kLanes];
    limited_bf16(key + d, count, halves);
    for (int64_t lane = 0; lane < count; lane += 2) {
      const uint32_t pair = halves[lane] | halves[lane + 1] << 16;
      memcpy(keys + (d + lane) * kTokens + offset * 2, &pair, sizeof(pair));
    }
    limited_bf16(value + d, count, halves);
    store_halves(halves, count, values + d * 2);
  }
}

// Asks for a line that will be written soon, or as early as that it need not be in the first cache.
static inline void ask_to_write(const char* line, bool early) {
  if (early) {
    __builtin_prefetch(line, 0, 2);
  } else {
    __builtin_prefetch(line, 1);
  }
}

// Asks for the lines that write_token() will write: a key's are a row of tokens apart.
static void ask_for_token(int64_t head_dim, int64_t offset, DType dtype, const void* keys, const void* values,
                          bool early) {
  const int64_t in_pairs = dtype == DType::kBF16 ? 2 : 1, bytes = in_pairs * static_cast<int64_t>(dtype_bytes(dtype));
  const char* key = static_cast<const char*>(keys) + offset * bytes;
  for (int64_t d = 0; d < head_dim; d += in_pairs, key += kTokens * bytes) ask_to_write(key, early);
  const char* value = static_cast<const char*>(values) + offset / in_pairs * head_dim * bytes;
  for (int64_t byte = 0; byte < head_dim * bytes; byte += 64) ask_to_write(value + byte, early);
}

static void write_token(const float* key, const float* value, int64_t head_dim, int64_t offset, DType dtype,
                        void* keys, void* values) {
  if (dtype == DType::kF32)
    return write_elements(key, value, head_dim, offset, static_cast<float*>(keys), static_cast<float*>(values));
  const auto write = dtype == DType::kF16 ? write_elements<uint16_t> : write_pairs;
  write(key, value, head_dim, offset, static_cast<uint16_t*>(keys), static_cast<uint16_t*>(values));
}

// float32 copies of rows of `columns` elements, each filled up with zeros to `to_stride`.
template <typename T>
static void widen(const T* from, int64_t rows, int64_t columns, float* to, int64_t to_stride) {
  if (columns == to_stride) {
    columns = to_stride = rows * columns;
    rows = 1;
  }
  for (int64_t row = 0; row < rows; ++row, from += columns, to += to_stride) {
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) store(to + c, load_element(from + c));
    if (c == to_stride) continue;
    T last[kLanes] = {};
    memcpy(last, from + c, (columns - c) * sizeof(T));
    float widened[kLanes];
    store(widened, load_element(last));
    for (int64_t lane = 0; c + lane < to_stride; ++lane) to[c + lane] = lane < columns - c ? widened[lane] : 0.0f;
  }
}

// Two elements of bfloat16, the first in the lower half: how a cache of them is laid out.
struct BF16Pair {
  uint32_t bits;

  static void store_bits(float* to, uint32_t bits) { memcpy(to, &bits, sizeof(bits)); }
  void widen(float* first, float* second) const {
    store_bits(first, bits << 16);
    store_bits(second, bits & 0xffff0000u);
  }
};

// keys[head_dim][32] and values[32][to_stride] in float32, the latter filled up with zeros.
template <typename T>
static void widen_keys(const T* keys, int64_t head_dim, float* to) {
  widen(keys, head_dim, kTokens, to, kTokens);
}
template <typename T>
static void widen_values(const T* values, int64_t head_dim, float* to, int64_t to_stride) {
  widen(values, kTokens, head_dim, to, to_stride);
}

static inline void widen_keys(const BF16Pair* keys, int64_t head_dim, float* to) {
  float unused[kTokens];
  for (int64_t d = 0; d < head_dim; d += 2, keys += kTokens, to += 2 * kTokens)
    for (int token = 0; token < kTokens; ++token)
      keys[token].widen(to + token, d + 1 < head_dim ? to + kTokens + token : unused + token);
}
static inline void widen_values(const BF16Pair* values, int64_t head_dim, float* to, int64_t to_stride) {
  memset(to, 0, static_cast<size_t>(kTokens * to_stride) * sizeof(float));
  for (int token = 0; token < kTokens; token += 2, values += head_dim, to += 2 * to_stride)
    for (int64_t d = 0; d < head_dim; ++d) values[d].widen(to + d, to + to_stride + d);
}

}  // namespace weft::kernels::WEFT_KERNELS
