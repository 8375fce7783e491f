#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out[r, h] = x[r, h] / sqrt(mean(x[r, h]^2) + eps) * weight, for each of `heads` slices h of a row.
class RmsNorm final : public Op {
 public:
  explicit RmsNorm(const NodeSpec& spec)
      : x_(spec.input("x")), heads_(spec.numbers.count("heads") ? integer(spec, "heads", 1) : 1),
        eps_(static_cast<float>(spec.number("eps"))) {
    const int64_t columns = columns_of(spec, "x");
    if (columns % heads_) refuse_node(spec, "columns in " + std::to_string(heads_) + " equal slices", std::to_string(columns));
    expect_columns(spec, "out", columns);
    head_columns_ = columns / heads_;
    weight_ = spec.vector("weight", head_columns_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = args.in[x_].f32_row(row);
      float* out = args.out[0].f32_row(row);
      for (int64_t first = 0; first < heads_ * head_columns_; first += head_columns_)
        args.kernels->rows->rms_norm(x + first, weight_.get(), out + first, head_columns_, eps_);
    }
  }

 private:
  int x_;
  int64_t heads_, head_columns_ = 0;
  float eps_;
  Vector weight_;
};

}  // namespace

std::unique_ptr<Op> make_rms_norm(const NodeSpec& spec) { return std::make_unique<RmsNorm>(spec); }

}  // namespace weft
