#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out = factor * x
class Scale final : public Op {
 public:
  explicit Scale(const NodeSpec& spec)
      : x_(spec.input("x")), columns_(columns_of(spec, "x")), factor_(static_cast<float>(spec.number("factor"))) {
    expect_columns(spec, "out", columns_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = args.in[x_].f32_row(row);
      float* out = args.out[0].f32_row(row);
      for (int64_t c = 0; c < columns_; ++c) out[c] = factor_ * x[c];
    }
  }

 private:
  int x_;
  int64_t columns_;
  float factor_;
};

}  // namespace

std::unique_ptr<Op> make_scale(const NodeSpec& spec) { return std::make_unique<Scale>(spec); }

}  // namespace weft
