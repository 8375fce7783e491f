#include <string.h>

#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out[i] = x[rows[i]]
class GatherRows final : public Op {
 public:
  explicit GatherRows(const NodeSpec& spec)
      : x_(spec.input("x")), rows_(spec.input("rows")), columns_(columns_of(spec, "x")) {
    expect_columns(spec, "out", columns_);
    expect_columns(spec, "rows", 1);
  }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[rows_], args.out[0].rows, args.in[x_].rows, "rows");
  }

  int64_t num_tiles(int, const OpArgs& args) const override { return (args.out[0].rows + kTileRows - 1) / kTileRows; }

  void run_tile(int, int64_t tile, const OpArgs& args, int) const override {
    const int64_t begin = tile * kTileRows;
    const int64_t end = begin + kTileRows < args.out[0].rows ? begin + kTileRows : args.out[0].rows;
    for (int64_t row = begin; row < end; ++row)
      memcpy(args.out[0].f32_row(row), args.in[x_].f32_row(*args.in[rows_].i32_row(row)), columns_ * sizeof(float));
  }

 private:
  static constexpr int64_t kTileRows = 16;
  int x_, rows_;
  int64_t columns_;
};

}  // namespace

std::unique_ptr<Op> make_gather_rows(const NodeSpec& spec) { return std::make_unique<GatherRows>(spec); }

}  // namespace weft
