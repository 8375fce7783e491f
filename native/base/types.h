// Element types and the view of a matrix that every operation works on.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace weft {

enum class DType : int32_t { kF32 = 0, kF16 = 1, kBF16 = 2, kI8 = 3, kI32 = 4, kU32 = 5, kI64 = 6 };

constexpr size_t dtype_bytes(DType dtype) {
  switch (dtype) {
    case DType::kF32:
    case DType::kI32:
    case DType::kU32: return 4;
    case DType::kF16:
    case DType::kBF16: return 2;
    case DType::kI8: return 1;
    case DType::kI64: return 8;
  }
  return 0;
}

// A view of rows x columns elements; it owns nothing. Rows are `row_stride` elements apart.
struct Matrix {
  void* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_stride = 0;
  DType dtype = DType::kF32;

  float* f32_row(int64_t row) const { return static_cast<float*>(data) + row * row_stride; }
  uint16_t* bf16_row(int64_t row) const { return static_cast<uint16_t*>(data) + row * row_stride; }
  int32_t* i32_row(int64_t row) const { return static_cast<int32_t*>(data) + row * row_stride; }
  bool empty() const { return data == nullptr; }
};

}  // namespace weft
