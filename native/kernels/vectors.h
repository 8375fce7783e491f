// A row as vectors: whole ones, and a last partial one. (Partial stores alone would be slow: they are microcode on
// some processors.) Elements are float32, or bfloat16. Included by kernel sources only, after kernels/simd.h.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

struct WholeVector {
  F32 load(const float* from) const { return kernels::WEFT_KERNELS::load(from); }
  F32 load(const uint16_t* from) const { return load_bf16(from); }
  void store(float* to, F32 value) const { kernels::WEFT_KERNELS::store(to, value); }
  void store(uint16_t* to, F32 value) const { store_bf16(to, value); }
};

struct PartialVector {
  int64_t count;
  F32 load(const float* from) const { return load_partial(from, count); }
  F32 load(const uint16_t* from) const { return load_bf16_partial(from, count); }
  void store(float* to, F32 value) const { store_partial(to, value, count); }
  void store(uint16_t* to, F32 value) const { store_bf16_partial(to, value, count); }
};

// Calls body(i, vector) for the vectors that begin at element i; `vector` loads and stores its elements.
template <typename Body>
static inline void each_vector(int64_t columns, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) body(i, WholeVector{});
  if (i < columns) body(i, PartialVector{columns - i});
}

}  // namespace weft::kernels::WEFT_KERNELS
