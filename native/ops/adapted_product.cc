#include "ops/adapted_product.h"

#include <algorithm>

#include "ops/gemm_op.h"

namespace weft {

namespace {

constexpr size_t kAlignment = 64;
constexpr int64_t kLowStrips = 4;   // strips of rows in a tile that makes low columns
constexpr int64_t kUpStrips = 16;   // strips of columns in a tile that packs `up`

size_t aligned(int64_t bytes) { return (static_cast<size_t>(bytes) + kAlignment - 1) / kAlignment * kAlignment; }
int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

}  // namespace

AdaptedProduct::AdaptedProduct(const NodeSpec& spec, const GemmSizes& most, float factor, std::vector<LowPart> parts)
    : kernels_(*spec.kernels->gemm), form_(gemm_form(spec)), most_(most), factor_(factor), parts_(std::move(parts)) {
  for (LowPart& part : parts_) {
    part.packed_low = more_inputs_;
    more_inputs_ += form_ == GemmForm::kBF16Pairs ? divide_up(part.rank, 2) * 2 : part.rank;
  }
  const int64_t width = kernels_.panel_columns;
  for (int64_t column = 0; column < most.columns; column += width) {
    int64_t first = more_inputs_, end = 0;
    for (const LowPart& part : parts_) {
      if (part.first_column >= column + width || part.first_column + part.columns <= column) continue;
      first = std::min(first, part.packed_low);
      end = std::max(end, part.packed_low + part.rank);
    }
    ranges_.push_back(first < end ? GemmRange{first, end - first} : GemmRange{0, 0});
  }
}

int64_t AdaptedProduct::num_strips(int64_t columns) const { return divide_up(columns, kernels_.panel_columns); }

AdaptedProduct::Places AdaptedProduct::places(const GemmSizes& sizes) const {
  const int64_t width = kernels_.panel_columns;
  Places at = {};
  at.b = GemmWork::packed_a_bytes(kernels_, form_, sizes);
  at.low = at.b + GemmWork::packed_b_bytes(kernels_, form_, sizes);
  at.up = at.low + aligned(divide_up(sizes.rows, kernels_.tile_rows) * strip_bytes(kernels_.tile_rows, more_inputs_));
  at.down = at.up + aligned(num_strips(sizes.columns) * strip_bytes(width, more_inputs_));
  at.end = at.down;
  for (const LowPart& part : parts_) at.end += aligned(num_strips(part.rank) * strip_bytes(width, part.inputs));
  return at;
}

size_t AdaptedProduct::scratch_bytes() const {
  const int64_t width = kernels_.panel_columns;
  int64_t most_rank = 0;
  for (const LowPart& part : parts_) most_rank = std::max(most_rank, part.rank);
  const int64_t sums = kLowStrips * kernels_.tile_rows * num_strips(most_rank) * width;
  const size_t own = aligned(std::max(sums, width * more_inputs_) * int64_t{sizeof(float)});
  return std::max(own, GemmWork::scratch_bytes(kernels_, form_, most_, true, true));
}

GemmProduct AdaptedProduct::packed_product(const OpArgs& args) const {
  GemmProduct work = product(args);
  const Places at = places(work.sizes);
  work.packed_a = shared_at(args, at.a);
  work.packed_b = shared_at(args, at.b);
  work.more = {more_inputs_, shared_at(args, at.low), shared_at(args, at.up), ranges_.data()};
  return work;
}

int64_t AdaptedProduct::num_up_tiles() const { return divide_up(num_strips(most_.columns), kUpStrips); }

int64_t AdaptedProduct::num_tiles(int phase, const OpArgs& args) const {
  const GemmProduct work = packed_product(args);
  if (work.sizes.rows == 0) return 0;
  if (phase == 1) return divide_up(work.sizes.rows, kLowStrips * kernels_.tile_rows);
  const GemmWork cut(kernels_, work, args.num_threads);
  return phase == 0 ? num_up_tiles() + static_cast<int64_t>(parts_.size()) + cut.num_pack_tiles() : cut.num_tiles();
}

void AdaptedProduct::run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const {
  float* values = static_cast<float*>(args.scratch[thread].data);
  if (phase == 1) return make_low(tile, args, values);
  if (phase == 0) {
    if (tile < num_up_tiles()) return pack_up(tile, args, values);
    tile -= num_up_tiles();
    if (tile < static_cast<int64_t>(parts_.size())) return pack_down(static_cast<size_t>(tile), args);
    tile -= static_cast<int64_t>(parts_.size());
  }
  const GemmProduct work = packed_product(args);
  const GemmWork cut(kernels_, work, args.num_threads);
  phase == 0 ? cut.pack(tile, values) : cut.multiply(tile, values);
}

// Strips of columns over all low columns: zero where a column has no part in them.
void AdaptedProduct::pack_up(int64_t tile, const OpArgs& args, float* values) const {
  const int64_t width = kernels_.panel_columns, last = std::min(num_strips(most_.columns), (tile + 1) * kUpStrips);
  uint8_t* to = shared_at(args, places(product(args).sizes).up);
  for (int64_t strip = tile * kUpStrips; strip < last; ++strip) {
    const int64_t column = strip * width;
    std::fill_n(values, width * more_inputs_, 0.0f);
    for (const LowPart& part : parts_) {
      const int64_t begin = std::max(column, part.first_column);
      const int64_t end = std::min(column + width, part.first_column + part.columns);
      for (int64_t c = begin; c < end; ++c)
        for (int64_t j = 0; j < part.rank; ++j)
          values[(c - column) * more_inputs_ + part.packed_low + j] =
              part.up.data[(c - part.first_column) * part.up.row_stride + j * part.up.k_stride];
    }
    const GemmSource source = {values, more_inputs_, 1};
    const int64_t bytes = strip_bytes(width, more_inputs_);
    kernels_.pack(form_, &source, width, width, more_inputs_, to + strip * bytes, bytes);
  }
}

// Where the packed `down` of a part begins, those of all parts from `first` on.
const uint8_t* AdaptedProduct::down_of(size_t part, const uint8_t* first) const {
  for (size_t i = 0; i < part; ++i)
    first += aligned(num_strips(parts_[i].rank) * strip_bytes(kernels_.panel_columns, parts_[i].inputs));
  return first;
}

void AdaptedProduct::pack_down(size_t index, const OpArgs& args) const {
  const LowPart& part = parts_[index];
  const uint8_t* to = down_of(index, shared_at(args, places(product(args).sizes).down));
  kernels_.pack(form_, &part.down, kernels_.panel_columns, part.rank, part.inputs, const_cast<uint8_t*>(to),
                strip_bytes(kernels_.panel_columns, part.inputs));
}

// A few strips of rows: their low columns, then these packed.
void AdaptedProduct::make_low(int64_t tile, const OpArgs& args, float* sums) const {
  const GemmProduct work = packed_product(args);
  const Matrix& low = args.out[1];
  const int64_t width = kernels_.tile_rows, row = tile * kLowStrips * width;
  const int64_t bytes = strip_bytes(width, more_inputs_);
  GemmTile part_work = {};
  part_work.form = form_;
  part_work.rows = std::min(kLowStrips * width, work.sizes.rows - row);
  part_work.sums = sums;
  part_work.out_stride = low.row_stride;
  for (size_t index = 0; index < parts_.size(); ++index) {
    const LowPart& part = parts_[index];
    part_work.out = low.f32_row(row) + part.low;
    part_work.columns = part.rank;
    multiply_low(index, work, part_work, row);
    for (int64_t r = 0; r < part_work.rows; ++r)
      for (int64_t j = 0; j < part.rank; ++j) part_work.out[r * low.row_stride + j] *= factor_;
    const GemmSource source = {part_work.out, low.row_stride, 1};
    uint8_t* to = const_cast<uint8_t*>(work.more.a) + row / width * bytes + strip_bytes(width, part.packed_low);
    kernels_.pack(form_, &source, width, part_work.rows, part.rank, to, bytes);
  }
}

// The packed rows from `row` on times a part's `down`, over what each block has of the part's inputs.
void AdaptedProduct::multiply_low(size_t index, const GemmProduct& product, GemmTile work, int64_t row) const {
  const LowPart& part = parts_[index];
  const GemmBlocks blocks(product.sizes.inputs);
  const int64_t end = part.first_input + part.inputs, width = kernels_.tile_rows;
  const uint8_t* down = down_of(index, product.packed_a + places(product.sizes).down);
  work.b_strip_bytes = strip_bytes(kernels_.panel_columns, part.inputs);
  for (int64_t block = 0; block < blocks.count; ++block) {
    const int64_t block_first = blocks.first(block);
    const int64_t first = std::max(part.first_input, block_first), last = std::min(end, block_first + blocks.size(block));
    if (first >= last) continue;
    work.k = last - first;
    work.is_first = first == part.first_input;
    work.is_last = last == end;
    work.a = product.packed_a + packed_offset(form_, width, product.sizes.rows, blocks, block, row) +
             strip_bytes(width, first - block_first);
    work.a_strip_bytes = strip_bytes(width, blocks.size(block));
    work.b = down + strip_bytes(kernels_.panel_columns, first - part.first_input);
    kernels_.multiply(&work);
  }
}

}  // namespace weft
