#include "ops/gemm.h"

#include <string.h>

#include <algorithm>

namespace weft {

namespace {

// What a tile packs; its rows are a multiple of every width and of a panel's outputs. An operand that is stored by
// input is read along its rows, so many of them at once.
struct PackShape {
  int64_t rows, inputs;
};
constexpr PackShape kPackByRow = {96, kGemmBlock};
constexpr PackShape kPackByInput = {768, kGemmBlockStep};

PackShape pack_shape(const GemmOperand& operand) {
  return operand.weight || operand.source.k_stride == 1 ? kPackByRow : kPackByInput;
}

constexpr int64_t kColumnsPerTile = 192;  // what a tile's rows and columns come from: the second cache holds
                                         // its rows of A, its sums and a strip of B
constexpr size_t kAlignment = 64;

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }
size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Bytes of a word of a strip: an element, or a pair of bfloat16.
int64_t words_of(GemmForm form, int64_t k) { return form == GemmForm::kBF16Pairs ? (k + 1) / 2 : k; }

size_t packed_bytes(GemmForm form, int64_t width, int64_t rows, int64_t k) {
  return aligned(static_cast<size_t>(divide_up(rows, width) * width * (words_of(form, k) + 1) * 4));
}

// Outputs [first, first + count) of a weight by inputs [first_input, first_input + k) as values[input][output].
void unpack(const GemmKernels& kernels, const Weight& weight, int64_t first, int64_t count, int64_t first_input,
            int64_t k, float* values) {
  alignas(64) float group_values[kGroupInputs * kPanelColumns];
  const int64_t end = first + count;
  size_t at = 0;
  for (int64_t output = first; output < end;) {
    while (output >= weight.parts()[at].first_output + weight.parts()[at].n) ++at;
    const WeightPart& part = weight.parts()[at];
    const int64_t index = output - part.first_output;
    const PanelPlace place = place_of(part, weight.is_interleaved(), index);
    const int64_t half = weight.is_interleaved() ? kPanelColumns / 2 : kPanelColumns;
    const int64_t features = weight.is_interleaved() ? part.n / 2 : part.n;
    const int64_t run = std::min({half - place.column % half, features - index % features, end - output});
    const Panels panels = weight.panels(part);
    for (int64_t input = first_input; input < first_input + k;) {
      const int64_t group = input / kGroupInputs, skipped = input % kGroupInputs;
      const int64_t inputs = std::min(kGroupInputs - skipped, first_input + k - input);
      kernels.unpack_group(&panels, place.panel, group, skipped + inputs, group_values);
      for (int64_t i = 0; i < inputs; ++i)
        memcpy(values + (input + i - first_input) * count + output - first,
               group_values + (skipped + i) * kPanelColumns + place.column, static_cast<size_t>(run) * sizeof(float));
      input += inputs;
    }
    output += run;
  }
}

}  // namespace

namespace {

const WeightPart* pairs_of(const GemmOperand& operand) {
  const Weight* weight = operand.weight;
  const bool is_plain = weight && !weight->is_interleaved() && weight->parts().size() == 1;
  return is_plain && weight->parts()[0].format.kind == PanelKind::kBF16 ? &weight->parts()[0] : nullptr;
}

// Whole groups of pairs, which may be turned one by one.
bool has_whole_pairs(GemmForm form, const GemmOperand& operand) {
  return form == GemmForm::kBF16Pairs && operand.is_transposed && pairs_of(operand) &&
         operand.weight->k() % kGroupInputs == 0 && operand.weight->n() % kPanelColumns == 0;
}

// Strips of 32 inputs of a weight over its outputs [first_input, first_input + k): borders are those of groups.
void pack_transposed(const GemmKernels& kernels, const Weight& weight, int64_t first, int64_t count,
                     int64_t first_input, int64_t k, uint8_t* strips, int64_t strip_bytes) {
  const Panels panels = weight.panels(weight.parts()[0]);
  for (int64_t n = 0; n < k; n += kPanelColumns) {
    const uint8_t* panel = panels.data + (first_input + n) / kPanelColumns * panels.panel_bytes;
    for (int64_t strip = 0; strip < count / kGroupInputs; ++strip)
      kernels.transpose_pairs(panel + (first / kGroupInputs + strip) * panels.group_bytes,
                              strips + strip * strip_bytes + gemm_strip_bytes(GemmForm::kBF16Pairs, kPanelColumns, n));
  }
}

}  // namespace

bool lies_packed(GemmForm form, const GemmOperand& operand) {
  return form == GemmForm::kBF16Pairs && !operand.is_transposed && pairs_of(operand);
}

void pack_operand(const GemmKernels& kernels, GemmForm form, const GemmOperand& operand, int64_t width, int64_t first,
                  int64_t count, int64_t first_input, int64_t k, void* strips, int64_t strip_bytes, float* unpacked) {
  if (width == kPanelColumns && has_whole_pairs(form, operand))
    return pack_transposed(kernels, *operand.weight, first, count, first_input, k, static_cast<uint8_t*>(strips), strip_bytes);
  GemmSource source = operand.source;
  if (!operand.weight) {
    source = source.from(first, first_input);
  } else if (operand.is_transposed) {
    unpack(kernels, *operand.weight, first_input, k, first, count, unpacked);
    source = {unpacked, k, 1};
  } else {
    unpack(kernels, *operand.weight, first, count, first_input, k, unpacked);
    source = {unpacked, 1, count};
  }
  kernels.pack(form, &source, width, count, k, strips, strip_bytes);
}

int64_t packed_offset(GemmForm form, int64_t width, int64_t rows, const GemmBlocks& blocks, int64_t block, int64_t row) {
  const int64_t before = words_of(form, blocks.first(block)) * divide_up(rows, width) * width * 4;
  return before + row / width * gemm_strip_bytes(form, width, blocks.size(block));
}

// Tiles of rows_in_cache by kColumnsPerTile, a multiple of the number of threads; an operand that tiles pack
// themselves is cut along the other one's whole length, so that it is packed once.
GemmWork::GemmWork(const GemmKernels& kernels, const GemmProduct& product, int num_threads)
    : kernels_(kernels), product_(product), blocks_(product.sizes.inputs),
      b_lies_packed_(lies_packed(product.form, product.b)),
      row_strips_(divide_up(product.sizes.rows, kernels.tile_rows)),
      column_strips_(divide_up(product.sizes.columns, kernels.panel_columns)) {
  if (product.sizes.rows == 0) return;
  const bool has_b = product.packed_b || b_lies_packed_;
  if (has_b) row_tiles_ = divide_up(product.sizes.rows, kernels.rows_in_cache);
  if (product.packed_a) column_tiles_ = divide_up(product.sizes.columns, kColumnsPerTile);
  int64_t& tiles = has_b ? row_tiles_ : column_tiles_;
  const int64_t most = has_b ? row_strips_ : column_strips_;
  while (row_tiles_ * column_tiles_ % num_threads != 0 && tiles < most) ++tiles;
  if (product.packed_a) pack_tiles_a_ = num_pack_tiles(product.a, product.sizes.rows);
  if (product.packed_b && !b_lies_packed_) pack_tiles_b_ = num_pack_tiles(product.b, product.sizes.columns);
}

size_t GemmWork::packed_a_bytes(const GemmKernels& kernels, GemmForm form, const GemmSizes& sizes) {
  return packed_bytes(form, kernels.tile_rows, sizes.rows, sizes.inputs);
}

size_t GemmWork::packed_b_bytes(const GemmKernels& kernels, GemmForm form, const GemmSizes& sizes) {
  return packed_bytes(form, kernels.panel_columns, sizes.columns, sizes.inputs);
}

namespace {

// The parts of a thread's scratch: sums of a tile, strips that it packs, the values of a weight while packed.
struct ScratchParts {
  size_t sums, strips, values;
};

ScratchParts scratch_parts(const GemmKernels& kernels, GemmForm, const GemmSizes& most, bool packs_a, bool packs_b) {
  const int64_t rows = packs_b ? std::min(most.rows, kernels.rows_in_cache) : most.rows;
  const int64_t columns = packs_a ? std::min(most.columns, kColumnsPerTile) : most.columns;
  const int64_t padded_rows = divide_up(rows, kernels.tile_rows) * kernels.tile_rows;
  const int64_t padded_columns = divide_up(columns, kernels.panel_columns) * kernels.panel_columns;
  const int64_t own = packs_a && packs_b ? 0 : packs_a ? padded_columns : padded_rows;
  const int64_t unpacked = std::max(kPackByRow.rows, own);
  const bool needs_sums = most.inputs > kGemmBlock;
  return {needs_sums ? aligned(static_cast<size_t>(padded_rows * padded_columns) * sizeof(float)) : 0,
          aligned(static_cast<size_t>(own * kGemmBlock) * sizeof(float)),
          aligned(static_cast<size_t>(unpacked * kGemmBlock) * sizeof(float))};
}

}  // namespace

size_t GemmWork::scratch_bytes(const GemmKernels& kernels, GemmForm form, const GemmSizes& most, bool packs_a,
                               bool packs_b) {
  const ScratchParts parts = scratch_parts(kernels, form, most, packs_a, packs_b);
  return parts.sums + parts.strips + parts.values;
}

int64_t GemmWork::num_pack_tiles(const GemmOperand& operand, int64_t rows) const {
  const PackShape shape = pack_shape(operand);
  return blocks_.count * divide_up(blocks_.length, shape.inputs) * divide_up(rows, shape.rows);
}

void GemmWork::pack(int64_t tile, void* scratch) const {
  if (tile < pack_tiles_a_)
    return pack_part(product_.a, kernels_.tile_rows, product_.sizes.rows, product_.packed_a, tile, scratch);
  pack_part(product_.b, kernels_.panel_columns, product_.sizes.columns, product_.packed_b, tile - pack_tiles_a_, scratch);
}

void GemmWork::pack_part(const GemmOperand& operand, int64_t width, int64_t rows, uint8_t* packed, int64_t tile,
                         void* scratch) const {
  const PackShape shape = pack_shape(operand);
  const int64_t parts = divide_up(blocks_.length, shape.inputs);
  const int64_t part = tile % parts, block = tile / parts % blocks_.count, first = tile / parts / blocks_.count * shape.rows;
  const int64_t first_input = part * shape.inputs, size = blocks_.size(block);
  const int64_t k = std::min(shape.inputs, size - first_input);
  if (k <= 0) return;
  uint8_t* strips = packed + packed_offset(product_.form, width, rows, blocks_, block, first) +
                    gemm_strip_bytes(product_.form, width, first_input);
  pack_operand(kernels_, product_.form, operand, width, first, std::min(shape.rows, rows - first),
               blocks_.first(block) + first_input, k, strips, gemm_strip_bytes(product_.form, width, size),
               static_cast<float*>(scratch));
}

GemmWork::Part GemmWork::part_of(int64_t tile) const {
  const GemmSizes& sizes = product_.sizes;
  const int64_t row_tile = tile % row_tiles_, column_tile = tile / row_tiles_;
  const int64_t row = row_tile * row_strips_ / row_tiles_ * kernels_.tile_rows;
  const int64_t last_row = std::min(sizes.rows, (row_tile + 1) * row_strips_ / row_tiles_ * kernels_.tile_rows);
  const int64_t column = column_tile * column_strips_ / column_tiles_ * kernels_.panel_columns;
  const int64_t last_column =
      std::min(sizes.columns, (column_tile + 1) * column_strips_ / column_tiles_ * kernels_.panel_columns);
  return {row, last_row - row, column, last_column - column};
}

// What is packed after block `block` of a tile: the next block, or the first one of the next tile.
GemmAhead GemmWork::ahead_of(int64_t tile, int64_t block) const {
  if (product_.packed_a && product_.packed_b) return {};
  const GemmOperand& operand = product_.packed_a ? product_.b : product_.a;
  if (++block == blocks_.count) block = 0, ++tile;
  if (operand.weight || tile >= num_tiles()) return {};
  const Part part = part_of(tile);
  const int64_t first = product_.packed_a ? part.column : part.row, count = product_.packed_a ? part.columns : part.rows;
  const GemmSource source = operand.source.from(first, blocks_.first(block));
  const void* data = source.data ? static_cast<const void*>(source.data) : source.bf16;
  const bool by_row = source.k_stride == 1;
  const int64_t runs = by_row ? count : blocks_.size(block), run = by_row ? blocks_.size(block) : count;
  const int64_t stride = by_row ? source.row_stride : source.k_stride, bytes = source.data ? 4 : 2;
  return {static_cast<const uint8_t*>(data), runs, run * bytes, stride * bytes};
}

GemmMore GemmWork::more_of(const Part& part) const {
  const GemmMoreInputs& more = product_.more;
  if (!more.ranges) return {};
  const int64_t a_bytes = gemm_strip_bytes(product_.form, kernels_.tile_rows, more.inputs);
  const int64_t b_bytes = gemm_strip_bytes(product_.form, kernels_.panel_columns, more.inputs);
  const int64_t strip = part.column / kernels_.panel_columns;
  return {more.a + part.row / kernels_.tile_rows * a_bytes, more.b + strip * b_bytes, a_bytes, b_bytes,
          more.ranges + strip};
}

// The strips of A over a block: packed before, or packed now.
void GemmWork::choose_a(GemmTile& work, const Part& part, int64_t block, uint8_t* own_strips, float* values) const {
  const int64_t width = kernels_.tile_rows;
  work.a = own_strips;
  work.a_strip_bytes = gemm_strip_bytes(product_.form, width, work.k);
  if (product_.packed_a) {
    work.a = product_.packed_a + packed_offset(product_.form, width, product_.sizes.rows, blocks_, block, part.row);
    return;
  }
  pack_operand(kernels_, product_.form, product_.a, width, part.row, part.rows, blocks_.first(block), work.k, own_strips,
               work.a_strip_bytes, values);
}

void GemmWork::choose_b(GemmTile& work, const Part& part, int64_t block, uint8_t* own_strips, float* values) const {
  const int64_t width = kernels_.panel_columns;
  if (b_lies_packed_) {
    const Weight& weight = *product_.b.weight;
    const Panels panels = weight.panels(weight.parts()[0]);
    work.b = panels.data + part.column / width * panels.panel_bytes + blocks_.first(block) / kGroupInputs * panels.group_bytes;
    work.b_strip_bytes = panels.panel_bytes;
    return;
  }
  work.b = own_strips;
  work.b_strip_bytes = gemm_strip_bytes(product_.form, width, work.k);
  if (product_.packed_b) {
    work.b = product_.packed_b + packed_offset(product_.form, width, product_.sizes.columns, blocks_, block, part.column);
    return;
  }
  pack_operand(kernels_, product_.form, product_.b, width, part.column, part.columns, blocks_.first(block), work.k,
               own_strips, work.b_strip_bytes, values);
}

void GemmWork::multiply(int64_t tile, void* scratch) const {
  const Part part = part_of(tile);
  const auto [row, rows, column, columns] = part;
  const ScratchParts parts =
      scratch_parts(kernels_, product_.form, product_.sizes, product_.packed_a, product_.packed_b);
  uint8_t* memory = static_cast<uint8_t*>(scratch);
  uint8_t* own_strips = memory + parts.sums;
  float* values = reinterpret_cast<float*>(own_strips + parts.strips);
  GemmTile work = {};
  work.form = product_.form;
  work.rows = rows;
  work.columns = columns;
  work.sums = reinterpret_cast<float*>(memory);
  work.bias = product_.bias ? product_.bias + column : nullptr;
  work.addend = product_.addend ? product_.addend + row * product_.addend_stride + column : nullptr;
  work.addend_stride = product_.addend_stride;
  if (product_.out) work.out = product_.out + row * product_.out_stride + column;
  if (product_.out_bf16) work.out_bf16 = product_.out_bf16 + row * product_.out_stride + column;
  work.out_stride = product_.out_stride;
  work.streams = product_.streams;
  work.more = more_of(part);
  for (int64_t block = 0; block < blocks_.count; ++block) {
    work.k = blocks_.size(block);
    work.is_first = block == 0;
    work.is_last = block + 1 == blocks_.count;
    work.ahead = ahead_of(tile, block);
    choose_a(work, part, block, own_strips, values);
    choose_b(work, part, block, own_strips, values);
    kernels_.multiply(&work);
  }
}

}  // namespace weft
