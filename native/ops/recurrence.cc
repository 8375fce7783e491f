#include "ops/recurrence.h"

#include <algorithm>

#include "ops/checks.h"
#include "ops/sequences.h"

namespace weft {

namespace {

constexpr int kGates = 4;
constexpr int64_t kPackRows = 96;  // of the weight in a tile
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }
int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

}  // namespace

Recurrence::Recurrence(const NodeSpec& spec, bool is_backward)
    : kernels_(*spec.kernels->gemm), cells_(*spec.kernels->lstm), form_(gemm_form(spec)), weight_(spec, "weight"),
      hidden_(weight_.k), max_rows_(spec.max_rows), sequences_(spec.input("sequences")), is_backward_(is_backward) {
  if (weight_.n != kGates * hidden_)
    refuse_node(spec, "a recurrent weight [4H, H]", std::to_string(weight_.n) + " x " + std::to_string(hidden_));
  if (weight_.packed && weight_.packed->is_interleaved()) refuse_node(spec, "a plain weight", "an interleaved one");
  expect_columns(spec, "sequences", 2);
}

size_t Recurrence::gate_bytes() const {
  return GemmWork::packed_b_bytes(kernels_, form_, {max_rows_, hidden_, hidden_});
}

// Of the packed rows of one gate, or of h.
size_t Recurrence::segment_bytes() const {
  return GemmWork::packed_a_bytes(kernels_, form_, {max_rows_, hidden_, hidden_});
}

Recurrence::Places Recurrence::places() const {
  Places at = {};
  at.weights = aligned(static_cast<size_t>(max_rows_) * sizeof(int32_t));
  at.state = at.weights + kGates * gate_bytes();
  at.carried = at.state + 2 * (is_backward_ ? kGates : 1) * segment_bytes();
  at.end = at.carried + (is_backward_ ? aligned(static_cast<size_t>(max_rows_ * hidden_) * sizeof(float)) : 0);
  return at;
}

size_t Recurrence::shared_bytes() const { return places().end; }

// Sums of a product, products and values of each gate; a part of the weight while it is packed.
size_t Recurrence::scratch_bytes() const {
  const size_t step = sums_floats() * (1 + 2 * kGates);
  return std::max(step, static_cast<size_t>(kPackRows * kGemmBlock)) * sizeof(float);
}

size_t Recurrence::sums_floats() const {
  return static_cast<size_t>(divide_up(max_rows_, kernels_.tile_rows) * kernels_.tile_rows * kernels_.panel_columns);
}

float* Recurrence::carried(const OpArgs& args) const {
  return reinterpret_cast<float*>(static_cast<uint8_t*>(args.shared) + places().carried);
}

uint8_t* Recurrence::state(int64_t step, int segment, const OpArgs& args) const {
  const int64_t index = step % 2 * (is_backward_ ? kGates : 1) + segment;
  return static_cast<uint8_t*>(args.shared) + places().state + static_cast<size_t>(index) * segment_bytes();
}

int64_t Recurrence::longest(const OpArgs& args) const {
  int64_t rows = 0;
  const Matrix& sequences = args.in[sequences_];
  for (int64_t i = 0; i < sequences.rows; ++i) rows = std::max(rows, sequence_range(sequences, i).num_rows);
  return rows;
}

int64_t Recurrence::count_longer(int64_t step, const OpArgs& args) const {
  const int32_t* order = static_cast<const int32_t*>(args.shared);
  const Matrix& sequences = args.in[sequences_];
  return std::partition_point(order, order + sequences.rows,
                              [&](int32_t i) { return sequence_range(sequences, i).num_rows > step; }) - order;
}

void Recurrence::sort_sequences(const OpArgs& args) const {
  int32_t* order = static_cast<int32_t*>(args.shared);
  const Matrix& sequences = args.in[sequences_];
  for (int64_t i = 0; i < sequences.rows; ++i) order[i] = static_cast<int32_t>(i);
  std::sort(order, order + sequences.rows, [&](int32_t a, int32_t b) {
    const int64_t first = sequence_range(sequences, a).num_rows, second = sequence_range(sequences, b).num_rows;
    return first != second ? first > second : a < b;
  });
}

int64_t Recurrence::row_of(int64_t slot, int64_t step, const OpArgs& args) const {
  return sequence_range(args.in[sequences_], static_cast<const int32_t*>(args.shared)[slot]).first_row + step;
}

int64_t Recurrence::num_tiles(int phase, const OpArgs& args) const {
  const int64_t steps = longest(args);
  if (phase > steps || steps == 0) return 0;
  if (phase > 0) return divide_up(hidden_, units_per_tile());
  return 1 + (steps > 1 ? kGates * GemmBlocks(hidden_).count * divide_up(hidden_, kPackRows) : 0);
}

void Recurrence::run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const {
  float* scratch = static_cast<float*>(args.scratch[thread].data);
  if (phase == 0) return tile == 0 ? sort_sequences(args) : pack_weight(tile - 1, args, scratch);
  StepTile work = {};
  work.step = is_backward_ ? longest(args) - phase : phase - 1;
  work.first_unit = tile * units_per_tile();
  work.units = std::min(units_per_tile(), hidden_ - work.first_unit);
  work.sequences = count_longer(work.step, args);
  work.sequences_after = count_longer(work.step + 1, args);
  run_step(work, args, scratch);
}

void Recurrence::pack_weight(int64_t tile, const OpArgs& args, float* scratch) const {
  const GemmBlocks blocks(hidden_);
  const int64_t gate = tile % kGates, block = tile / kGates % blocks.count;
  const int64_t first = tile / kGates / blocks.count * kPackRows, count = std::min(kPackRows, hidden_ - first);
  const int64_t width = kernels_.panel_columns, size = blocks.size(block), input = blocks.first(block);
  uint8_t* strips = static_cast<uint8_t*>(args.shared) + places().weights + static_cast<size_t>(gate) * gate_bytes() +
                    packed_offset(form_, width, hidden_, blocks, block, first);
  const int64_t strip_bytes = gemm_strip_bytes(form_, width, size);
  if (is_backward_) {
    pack_operand(kernels_, form_, weight_.backward(), width, first, count, gate * hidden_ + input, size, strips, strip_bytes, scratch);
  } else {
    pack_operand(kernels_, form_, weight_.forward(), width, gate * hidden_ + first, count, input, size, strips, strip_bytes, scratch);
  }
}

void Recurrence::multiply_gate(int gate, const StepTile& tile, int64_t rows, const OpArgs& args, bool is_first,
                               bool is_last, float* sums, float* out) const {
  const GemmBlocks blocks(hidden_);
  const uint8_t* weights = static_cast<const uint8_t*>(args.shared) + places().weights + static_cast<size_t>(gate) * gate_bytes();
  const uint8_t* packed_rows = state(tile.step, is_backward_ ? gate : 0, args);
  GemmTile work = {};
  work.form = form_;
  work.rows = rows;
  work.columns = tile.units;
  work.sums = sums;
  work.out = out;
  work.out_stride = units_per_tile();
  for (int64_t block = 0; block < blocks.count; ++block) {
    work.k = blocks.size(block);
    work.a_strip_bytes = gemm_strip_bytes(form_, kernels_.tile_rows, work.k);
    work.b_strip_bytes = gemm_strip_bytes(form_, kernels_.panel_columns, work.k);
    work.is_first = is_first && block == 0;
    work.is_last = is_last && block + 1 == blocks.count;
    work.a = packed_rows + packed_offset(form_, kernels_.tile_rows, args.in[sequences_].rows, blocks, block, 0);
    work.b = weights + packed_offset(form_, kernels_.panel_columns, hidden_, blocks, block, tile.first_unit);
    kernels_.multiply(&work);
  }
}

// A tile's units lie in one block, whose length they divide.
void Recurrence::pack_state(int segment, const StepTile& tile, int64_t rows, const float* values,
                            const OpArgs& args) const {
  const GemmBlocks blocks(hidden_);
  const int64_t block = tile.first_unit / blocks.length, width = kernels_.tile_rows;
  uint8_t* packed = state(tile.step + 1, segment, args) +
                    gemm_strip_bytes(form_, width, tile.first_unit - blocks.first(block));
  for (int64_t row = 0; row < rows; row += width) {
    const GemmSource source = {values + row * units_per_tile(), units_per_tile(), 1};
    kernels_.pack(form_, &source, width, std::min(width, rows - row), tile.units,
                  packed + packed_offset(form_, width, args.in[sequences_].rows, blocks, block, row),
                  gemm_strip_bytes(form_, width, blocks.size(block)));
  }
}

}  // namespace weft
