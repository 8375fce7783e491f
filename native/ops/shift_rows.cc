#include <string.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/sequences.h"

namespace weft {

namespace {

constexpr int64_t kTileRows = 64;

// out[r] = x[r - 1] within each sequence, zeros for its first row.
class ShiftRows final : public Op {
 public:
  explicit ShiftRows(const NodeSpec& spec)
      : x_(spec.input("x")), sequences_(spec.input("sequences")), columns_(columns_of(spec, "x")) {
    expect_columns(spec, "out", columns_);
    expect_columns(spec, "sequences", 2);
  }

  void check(const OpArgs& args) const override {
    expect_sequences(args.in[sequences_], args.in[x_].rows, "shift_rows");
  }

  int64_t num_tiles(int, const OpArgs& args) const override { return (args.in[x_].rows + kTileRows - 1) / kTileRows; }

  void run_tile(int, int64_t tile, const OpArgs& args, int) const override {
    const Matrix& sequences = args.in[sequences_];
    const int64_t begin = tile * kTileRows, end = std::min(args.in[x_].rows, begin + kTileRows);
    const size_t bytes = static_cast<size_t>(columns_) * sizeof(float);
    int64_t index = sequence_of_row(sequences, begin);
    for (int64_t row = begin; row < end; ++row) {
      const SequenceRange range = sequence_range(sequences, index);
      float* out = args.out[0].f32_row(row);
      if (row == range.first_row) {
        memset(out, 0, bytes);
      } else {
        memcpy(out, args.in[x_].f32_row(row - 1), bytes);
      }
      if (row + 1 == range.first_row + range.num_rows) ++index;
    }
  }

 private:
  int x_, sequences_;
  int64_t columns_;
};

}  // namespace

std::unique_ptr<Op> make_shift_rows(const NodeSpec& spec) { return std::make_unique<ShiftRows>(spec); }

}  // namespace weft
