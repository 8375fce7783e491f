// A product of training, cut into the tiles that a team shares out: pack operands, then multiply.
#pragma once

#include <stdint.h>

#include "base/types.h"
#include "kernels/gemm.h"
#include "ops/weight.h"

namespace weft {

// One operand [rows, inputs]: float32 in memory, or a packed weight that is dequantized on the way.
struct GemmOperand {
  GemmSource source = {};
  const Weight* weight = nullptr;
  bool is_transposed = false;  // of a weight: rows are its inputs, and the product runs over its outputs

  // element (row, k) at data[row * stride + k]
  static GemmOperand by_row(const float* data, int64_t stride) { return {{data, stride, 1}, nullptr, false}; }
  // element (row, k) at data[k * stride + row]
  static GemmOperand by_input(const float* data, int64_t stride) { return {{data, 1, stride}, nullptr, false}; }
  // Columns [first, ...) of rows that are float32 or bfloat16, or of what lies transposed.
  static GemmOperand by_row(const Matrix& rows) { return {source_of(rows, 0, rows.row_stride, 1), nullptr, false}; }
  static GemmOperand by_input(const Matrix& inputs, int64_t first = 0) {
    return {source_of(inputs, first, 1, inputs.row_stride), nullptr, false};
  }
  static GemmSource source_of(const Matrix& matrix, int64_t first, int64_t row_stride, int64_t k_stride) {
    if (matrix.dtype == DType::kBF16) return {nullptr, row_stride, k_stride, matrix.bf16_row(0) + first};
    return {matrix.f32_row(0) + first, row_stride, k_stride};
  }
  static GemmOperand packed(const Weight& weight, bool is_transposed) { return {{}, &weight, is_transposed}; }
};

// More inputs of a product: of rows that are packed, as one block, and of columns; a strip of columns takes the range of
// them that its columns have. Whoever makes the product packs both.
struct GemmMoreInputs {
  int64_t inputs = 0;
  const uint8_t* a = nullptr;
  const uint8_t* b = nullptr;
  const GemmRange* ranges = nullptr;  // one for each strip of columns; null for no more inputs
};

struct GemmSizes {
  int64_t rows, columns, inputs;
};

// out[rows, columns] = a[rows, inputs] * transpose of b[columns, inputs] (+ bias[columns]) (+ addend). `addend` may
// be `out`; neither may overlap the operands.
struct GemmProduct {
  GemmForm form;
  GemmSizes sizes;
  GemmOperand a, b;
  const float* bias = nullptr;
  const float* addend = nullptr;
  int64_t addend_stride = 0;
  float* out = nullptr;
  uint16_t* out_bf16 = nullptr;  // instead of `out`
  int64_t out_stride = 0;
  bool streams = false;  // past the caches: `out` is aligned to 64, its stride a multiple of 16
  GemmMoreInputs more = {};
  // Memory of packed_a_bytes() and packed_b_bytes() that pack tiles fill before any other is run. At most one may
  // be null: each tile then packs what it needs of that operand itself, which is best for one much larger than
  // the other and than the caches.
  uint8_t* packed_a = nullptr;
  uint8_t* packed_b = nullptr;
};

// Whether the weight of an operand lies in memory as a packed operand of this form does, one panel a strip.
bool lies_packed(GemmForm form, const GemmOperand& operand);

// Packs rows [first, first + count) of an operand over inputs [first_input, first_input + k) as strips that are
// `strip_bytes` apart. `unpacked`: count * k floats of scratch for a packed weight.
void pack_operand(const GemmKernels& kernels, GemmForm form, const GemmOperand& operand, int64_t width, int64_t first,
                  int64_t count, int64_t first_input, int64_t k, void* strips, int64_t strip_bytes, float* unpacked);

// Where the strips of rows [row, ...) over block `block` begin in a packed operand of `rows` rows.
int64_t packed_offset(GemmForm form, int64_t width, int64_t rows, const GemmBlocks& blocks, int64_t block, int64_t row);

class GemmWork {
 public:
  GemmWork(const GemmKernels& kernels, const GemmProduct& product, int num_threads);

  static size_t packed_a_bytes(const GemmKernels& kernels, GemmForm form, const GemmSizes& sizes);
  static size_t packed_b_bytes(const GemmKernels& kernels, GemmForm form, const GemmSizes& sizes);
  // Scratch of a thread, aligned to 64. Which operands get packed before must be known.
  static size_t scratch_bytes(const GemmKernels& kernels, GemmForm form, const GemmSizes& most, bool packs_a, bool packs_b);

  int64_t num_pack_tiles() const { return pack_tiles_a_ + pack_tiles_b_; }
  void pack(int64_t tile, void* scratch) const;

  // What a tile computes.
  struct Part {
    int64_t row, rows, column, columns;
  };
  Part part_of(int64_t tile) const;
  int64_t num_tiles() const { return row_tiles_ * column_tiles_; }
  void multiply(int64_t tile, void* scratch) const;

 private:
  GemmAhead ahead_of(int64_t tile, int64_t block) const;
  GemmMore more_of(const Part& part) const;
  void choose_a(GemmTile& work, const Part& part, int64_t block, uint8_t* own_strips, float* values) const;
  void choose_b(GemmTile& work, const Part& part, int64_t block, uint8_t* own_strips, float* values) const;

  int64_t num_pack_tiles(const GemmOperand& operand, int64_t rows) const;
  void pack_part(const GemmOperand& operand, int64_t width, int64_t rows, uint8_t* packed, int64_t tile,
                 void* scratch) const;

  const GemmKernels& kernels_;
  const GemmProduct& product_;
  const GemmBlocks blocks_;
  const bool b_lies_packed_;  // and is read where it is
  int64_t row_strips_, column_strips_;
  int64_t row_tiles_ = 1, column_tiles_ = 1;
  int64_t pack_tiles_a_ = 0, pack_tiles_b_ = 0;
};

}  // namespace weft
