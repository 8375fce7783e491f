#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out = a + b
class Add final : public Op {
 public:
  explicit Add(const NodeSpec& spec) : a_(spec.input("a")), b_(spec.input("b")), columns_(columns_of(spec, "a")) {
    expect_columns(spec, "b", columns_);
    expect_columns(spec, "out", columns_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      args.kernels->rows->add(args.in[a_].f32_row(row), args.in[b_].f32_row(row), args.out[0].f32_row(row), columns_);
  }

 private:
  int a_, b_;
  int64_t columns_;
};

}  // namespace

std::unique_ptr<Op> make_add(const NodeSpec& spec) { return std::make_unique<Add>(spec); }

}  // namespace weft
