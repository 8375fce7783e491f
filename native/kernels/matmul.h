// Products with packed weights: out[T, N] = x[T, K] times the transpose of a weight [N, K].
//
// A packed weight is a row of panels of 32 outputs; a panel is a row of groups of 32 inputs, so that both
// are read straight through. One group of a panel:
//   kF32   [32 k][32 n] float32
//   kF16   [32 k][32 n] float16
//   kBF16  [16 k/2][32 n][2 k] bfloat16
//   kQ8    [8 k/4][32 n][4 k] codes + 128 in a byte, scales, minimums
//   kInt8  [8 k/4][32 n][4 k] codes + 128 in a byte; after the last group of the panel the scales of its outputs,
//          [32 n] float32, one for all inputs
//   kQ4    [4 k/8][32 n][4 k] codes in the low halves of bytes (k + 0..3) and the high halves (k + 4..7),
//          scales, centers, both [32 n] int16; after the last group of the panel the units of its outputs,
//          [32 n] float32
// scales of kQ8 are [1 or 2][32 n]: of the whole group, or of its first and its second 16 inputs; minimums are [32 n].
// The last group of a float panel ends at K (kBF16: at K + 1 when K is odd); those of integers are padded.
//
// The value of a weight is  scale * code + minimum,  of kQ4  unit * (scale * (code - 8) + 8 * center)  with
// |scale| + |center| <= kMostWhole, so that the sums of a span of groups are exact in 32 bits; in what follows its
// minimum is  8 * (center - scale). Rows of x are quantized for integer weights, each group of
// 32 on its own: scale = max|x| / 127, code = round(x / scale). An output is, whatever the number of rows,
//   float panels:    for k ascending:  acc = fma(w, x, acc)
//   integer panels:  for groups ascending:  acc = fma(minimum, x_scale * float(sum of codes), acc)
//                                           acc = fma(scale * x_scale, float(exact dot of codes), acc)
//                   kQ4: then acc * unit; where the row form is kI8Shifted, in spans of four groups with one x_scale;
//                   a group's codes are doubled d times, as often as they have room, kMostShift times at most:
//                   for spans ascending:    span = 0
//                     for groups ascending:   span += scale * halved(exact dot of codes - 8 and codes)
//                                             span += center * halved(8 * sum of codes)
//                     acc = fma(x_scale, float(span), acc)
//                   halved(v) = v / 2^d, to the nearest whole number, upwards from the middle of two
//   kInt8:          for groups ascending:  acc = fma(x_scale, float(exact dot of codes), acc);  then acc * scale
//                   where the row form is kI8Wide in spans of two groups, each with one scale
// with the bfloat16 dot instruction, where there is one, in place of the first for kBF16.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace weft {

constexpr int64_t kPanelColumns = 32;
constexpr int64_t kGroupInputs = 32;
constexpr int64_t kSpanGroups = 2;     // groups with one scale in rows of the form kI8Wide
constexpr int64_t kShiftedGroups = 4;  // groups with one scale, and a shift each, in rows of the form kI8Shifted
constexpr int kMostShift = 7;
constexpr int kMostWhole = 1 << 14;    // 4 * (8 * 127 * 32) * (kMostWhole + 2) < 2^31

constexpr int64_t kPackedColumns = kShiftedGroups * kGroupInputs;  // that are packed on their own

enum class PanelKind : int32_t { kF32 = 0, kF16 = 1, kBF16 = 2, kQ8 = 3, kQ4 = 4, kInt8 = 5 };
constexpr int kNumPanelKinds = 6;

// What stands in for a minimum: nothing, a stored one (kQ4: a center), or -8 * scale (codes centered on 8).
enum class Minimum : int32_t { kNone = 0, kStored = 1, kCentered = 2 };

struct PanelFormat {
  PanelKind kind;
  int32_t scales_per_group;  // 2: kQ8 without minimums only
  int32_t scale_bytes;       // 2: float16 (kQ4: whole numbers), 4: float32; minimums alike; 0: a group has none
  Minimum minimum;
};

// Panels of one format, `panel_bytes` apart, from `data`.
struct Panels {
  const uint8_t* data;
  PanelFormat format;
  int64_t k;
  int64_t group_bytes;
  int64_t panel_bytes;
};

// What rows of x become for a kind of panel. Which one is the instruction set's choice.
enum class RowForm : int32_t { kF32 = 0, kBF16 = 1, kI8 = 2, kI16 = 3, kIntegral = 4, kI8Wide = 5, kI8Shifted = 6 };

// Up to kBlockRows packed rows: block_bytes(form, rows, k) bytes, aligned to 64.
struct RowBlock {
  uint8_t* data;
  RowForm form;
  int64_t rows;
  int64_t k;
};
constexpr int64_t kBlockRows = 128;

enum class RowNorm : int32_t { kNone = 0, kRms = 1, kLayer = 2 };

// Rows before they are packed: normalised if `norm` says so.
struct RowSource {
  const float* x;
  int64_t row_stride;
  int64_t k;
  RowNorm norm;
  const float* norm_weight;
  const float* norm_bias;  // kLayer only, may be null
  float eps;
};

enum class Activation : int32_t { kNone = 0, kSiluGate = 1, kGeluGate = 2, kGeluTanh = 3, kGeluErf = 4 };

// What becomes of the sums of a product: out = activation(sum + bias) * scale + residual.
struct Epilogue {
  Activation activation;
  float scale;
  const float* bias;        // of the panels' outputs in order; for gates gate's, then up's; null for none
  const float* residual;    // row 0, may equal `out`; null for none
  int64_t residual_stride;
  float* out;               // row 0 of the block, first column of these panels
  int64_t out_stride;
  int64_t columns;          // of `out` that these panels give: N, or N / 2 for gates
  bool streams;             // write past the caches: `out` is aligned to 64, its stride a multiple of 16
};

struct Product {
  Panels weight;
  RowBlock x;
  Epilogue epilogue;
  const uint8_t* next;  // the panel that is likely to be multiplied after these, to be fetched; null for none
};

struct MatmulKernels {
  RowForm row_form[kNumPanelKinds];
  int64_t few_rows;      // up to here a product is bound by memory
  size_t scratch_bytes;  // of multiply()

  size_t (*block_bytes)(RowForm form, int64_t rows, int64_t k);

  // Packs rows [first, last) of `source` into the same rows of each block. Blocks of one call have equal rows
  // and k; different rows of a block may be packed by different threads. `row`: k + 31 floats of scratch.
  void (*pack_rows)(const RowSource* source, const RowBlock* blocks, int num_blocks, int64_t first, int64_t last,
                    float* row);

  // Packs columns [first, last), multiples of kPackedColumns, of all of a block's rows, of which `x` has these columns
  // alone, its rows `stride` apart. Different columns of a block may be packed by different threads.
  void (*pack_columns)(const float* x, int64_t stride, const RowBlock* block, int64_t first, int64_t last);

  // Equals, for each row and each output n of panels [first, last):
  //   out[row][n] = epilogue(sum over k of x[row][k] * weight[n][k])
  // in the order given above. scratch: scratch_bytes, aligned to 64, of the calling thread.
  void (*multiply)(const Product* product, int64_t first, int64_t last, void* scratch);
};

}  // namespace weft
