#include <algorithm>
#include <vector>

#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

constexpr int64_t kSegmentFields = 6;
constexpr int64_t kMaxRank = 1024;

// A linear layer of one adapter: `columns` columns of out, the first at `first_column`, in runs of `run` columns
// every `stride` of them.
struct Segment {
  int64_t adapter, rank, first_column, columns, run, stride;
  const float* a;  // [rank, K]
  const float* b;  // [rank, columns]
};

// out = base; for the rows of adapter i and each of its segments: out[columns] += (x * a^T) * b
class LowRank final : public Op {
 public:
  explicit LowRank(const NodeSpec& spec)
      : x_(spec.input("x")), base_(spec.input("base")), adapters_(spec.input("adapters")),
        inputs_(columns_of(spec, "x")), columns_(columns_of(spec, "base")) {
    expect_columns(spec, "out", columns_);
    expect_columns(spec, "adapters", 1);
    num_adapters_ = integer(spec, "num_adapters", 1);
    const int64_t count = integer(spec, "num_segments", 1);
    const Vector fields = spec.vector("segments", count * kSegmentFields);
    read_segments(spec, fields.get(), count);
    a_ = spec.vector("a", ranks_ * inputs_);
    b_ = spec.vector("b", b_size_);
    place_segments();
  }

  bool row_wise() const override { return true; }

  void check(const OpArgs& args) const override {
    expect_rows(args.in[base_].rows, args.in[x_].rows, "a low-rank product's base");
    expect_indices(args.in[adapters_], args.in[x_].rows, num_adapters_ + 1, "adapters");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    const Matrix &base = args.in[base_], &out = args.out[0];
    for (int64_t row = begin; row < end; ++row)
      if (out.f32_row(row) != base.f32_row(row))
        std::copy_n(base.f32_row(row), columns_, out.f32_row(row));
    for (int64_t row = begin; row < end;) {
      const int64_t rows = equal_rows(args.in[adapters_], row, end);
      for (const Segment& segment : of_adapter_[static_cast<size_t>(*args.in[adapters_].i32_row(row))])
        add(segment, args, row, rows);
      row += rows;
    }
  }

 private:
  void read_segments(const NodeSpec& spec, const float* fields, int64_t count) {
    for (int64_t i = 0; i < count; ++i, fields += kSegmentFields) {
      Segment s = {};
      int64_t* const values[] = {&s.adapter, &s.rank, &s.first_column, &s.columns, &s.run, &s.stride};
      for (int64_t field = 0; field < kSegmentFields; ++field) *values[field] = static_cast<int64_t>(fields[field]);
      const bool is_placed = s.run > 0 && s.columns > 0 && s.columns % s.run == 0 && s.stride >= s.run &&
                             s.first_column >= 0 &&
                             s.first_column + (s.columns / s.run - 1) * s.stride + s.run <= columns_;
      if (s.adapter < 1 || s.adapter > num_adapters_ || s.rank < 1 || s.rank > kMaxRank || !is_placed)
        refuse_node(spec, "segments within the columns", "segment " + std::to_string(i) + " outside");
      segments_.push_back(s);
      ranks_ += s.rank;
      b_size_ += s.rank * s.columns;
    }
  }

  void place_segments() {
    const float *a = a_.get(), *b = b_.get();
    of_adapter_.resize(static_cast<size_t>(num_adapters_) + 1);
    for (Segment& segment : segments_) {
      segment.a = a;
      segment.b = b;
      a += segment.rank * inputs_;
      b += segment.rank * segment.columns;
      of_adapter_[static_cast<size_t>(segment.adapter)].push_back(segment);
    }
  }

  // How many rows from `row` on have its adapter, as many as a kernel takes.
  static int64_t equal_rows(const Matrix& adapters, int64_t row, int64_t end) {
    const int64_t last = std::min(end, row + kLowRankRows);
    int64_t next = row + 1;
    while (next < last && *adapters.i32_row(next) == *adapters.i32_row(row)) ++next;
    return next - row;
  }

  void add(const Segment& s, const OpArgs& args, int64_t row, int64_t rows) const {
    const Matrix &x = args.in[x_], &out = args.out[0];
    float low[kLowRankRows * kMaxRank];
    args.kernels->low_rank->down(x.f32_row(row), x.row_stride, rows, s.a, inputs_, s.rank, low);
    for (int64_t column = 0; column < s.columns; column += s.run)
      args.kernels->low_rank->up(low, rows, s.rank, s.b + column, s.columns,
                                 out.f32_row(row) + s.first_column + column / s.run * s.stride, out.row_stride, s.run);
  }

  int x_, base_, adapters_;
  int64_t inputs_, columns_, num_adapters_ = 0, ranks_ = 0, b_size_ = 0;
  Vector a_, b_;
  std::vector<Segment> segments_;
  std::vector<std::vector<Segment>> of_adapter_;
};

}  // namespace

std::unique_ptr<Op> make_low_rank(const NodeSpec& spec) { return std::make_unique<LowRank>(spec); }

}  // namespace weft
