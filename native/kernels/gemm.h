// Products of matrices that change at every step, as training has them: C[M, N] = A[M, K] times the transpose
// of B[N, K], where either may be stored transposed. Both operands are packed first, then multiplied.
//
// A packed operand is a row of blocks of at most kGemmBlock inputs; a block is a row of strips of `width` rows
// (kernels.tile_rows for A, kernels.panel_columns for B); a strip is [inputs][width], rows beyond the last zero.
// An element of C is, whatever the tiles:
//   for k ascending:  sum = fma(a, b, sum)        (portable: two roundings), more inputs after the others
//   C = sum (+ bias) (+ addend)
// With kBF16Pairs a strip is [inputs / 2][width][2] bfloat16, and the bfloat16 dot instruction stands in for two
// steps of the chain. (Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008)
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/matmul.h"

namespace weft {

// How elements are packed: as they are; rounded to bfloat16 but kept as float32; as bfloat16.
enum class GemmForm : int32_t { kF32 = 0, kRoundedF32 = 1, kBF16Pairs = 2 };

// Inputs of a block at most, and what blocks but the last are a multiple of.
constexpr int64_t kGemmBlock = 256;
constexpr int64_t kGemmBlockStep = 32;

// Element (row, k) lies at data[row * row_stride + k * k_stride], or at bf16[...] where `data` is null; one of the
// strides is 1.
struct GemmSource {
  const float* data;
  int64_t row_stride;
  int64_t k_stride;
  const uint16_t* bf16 = nullptr;

  // From element (row, k) on.
  GemmSource from(int64_t row, int64_t k) const {
    const int64_t elements = row * row_stride + k * k_stride;
    return {data ? data + elements : nullptr, row_stride, k_stride, bf16 ? bf16 + elements : nullptr};
  }
};

// Memory that is read after a tile: `runs` of `run_bytes`, `stride_bytes` apart. It is asked for while the tile
// multiplies, so that packing the next block does not wait for memory.
struct GemmAhead {
  const uint8_t* data;
  int64_t runs, run_bytes, stride_bytes;
};

struct GemmRange {
  int64_t first, count;
};

// Inputs after those of the last block, of which each strip of B has a range of its own; ranges begin at even inputs.
struct GemmMore {
  const uint8_t* a;  // the first strip
  const uint8_t* b;
  int64_t a_strip_bytes, b_strip_bytes;
  const GemmRange* ranges;  // one for each strip of B; null for no more inputs
};

// Some strips of A times some strips of B over one block of inputs.
struct GemmTile {
  GemmForm form;
  const uint8_t* a;  // the first strip
  const uint8_t* b;
  int64_t a_strip_bytes, b_strip_bytes;  // from a strip to the next one
  int64_t k;         // inputs of the block
  int64_t rows;      // of C; the strips hold at least as many
  int64_t columns;
  float* sums;       // [strips of b][strips of a][tile_rows][panel_columns], aligned to 64: the chains between blocks
  bool is_first;     // the chains begin at 0, else at `sums`
  bool is_last;      // C is written, else `sums`
  const float* bias;    // [columns] or null
  const float* addend;  // like out, may be out; null for none
  int64_t addend_stride;
  float* out;            // or null, and `out_bf16` instead: C rounded to nearest even
  int64_t out_stride;
  uint16_t* out_bf16;
  bool streams;    // write past the caches: `out` is aligned to 64, its stride a multiple of 16
  GemmAhead ahead;  // no runs for nothing
  GemmMore more;
};

struct GemmKernels {
  int64_t tile_rows;
  int64_t panel_columns;
  int64_t rows_in_cache;  // rows of A whose block should stay in the second cache
  GemmForm bf16_form;     // what products in bfloat16 are packed as

  // Packs inputs [0, k) of `rows` rows as strips of `width`, either tile_rows or panel_columns, that are
  // `strip_bytes` apart: gemm_strip_bytes() of all inputs of the block, of which these may be a part.
  void (*pack)(GemmForm form, const GemmSource* source, int64_t width, int64_t rows, int64_t k, void* strips,
               int64_t strip_bytes);

  void (*multiply)(const GemmTile* tile);

  // Writes inputs [0, k), k <= 32, of the 32 outputs of one group of a packed weight as float32 values[k][32].
  void (*unpack_group)(const Panels* weight, int64_t panel, int64_t group, int64_t k, float* values);

  // A group of a kBF16 panel, [16 k/2][32 n][2 k], as one of the transposed weight, [16 n/2][32 k][2 n].
  void (*transpose_pairs)(const uint8_t* group, uint8_t* to);

  // sums[c] += x[0][c] + x[1][c] + ..., added up in that order before; at most kSumRows rows.
  void (*add_column_sums)(const float* x, int64_t row_stride, int64_t rows, int64_t columns, float* sums);
};

constexpr int64_t kSumRows = 64;

// How inputs are cut into blocks: equal ones, as far as the step allows.
struct GemmBlocks {
  explicit constexpr GemmBlocks(int64_t k)
      : inputs(k), count(k > 0 ? (k + kGemmBlock - 1) / kGemmBlock : 1),
        length(((k + count - 1) / count + kGemmBlockStep - 1) / kGemmBlockStep * kGemmBlockStep) {}
  constexpr int64_t first(int64_t block) const { return block * length; }
  constexpr int64_t size(int64_t block) const {
    return inputs - first(block) < length ? inputs - first(block) : length;
  }
  int64_t inputs, count, length;
};

// Bytes of a strip of `k` inputs.
constexpr int64_t gemm_strip_bytes(GemmForm form, int64_t width, int64_t k) {
  return form == GemmForm::kBF16Pairs ? (k + 1) / 2 * width * 4 : k * width * 4;
}

}  // namespace weft
