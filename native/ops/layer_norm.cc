#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out[r] = (x[r] - mean) / sqrt(variance + eps) * weight + bias
class LayerNorm final : public Op {
 public:
  explicit LayerNorm(const NodeSpec& spec)
      : x_(spec.input("x")), columns_(columns_of(spec, "x")), eps_(static_cast<float>(spec.number("eps"))) {
    expect_columns(spec, "out", columns_);
    weight_ = spec.vector("weight", columns_);
    bias_ = spec.vector_or_null("bias", columns_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      args.kernels->rows->layer_norm(args.in[x_].f32_row(row), weight_.get(), bias_.get(), args.out[0].f32_row(row), columns_,
                                     eps_);
  }

 private:
  int x_;
  int64_t columns_;
  float eps_;
  Vector weight_, bias_;
};

}  // namespace

std::unique_ptr<Op> make_layer_norm(const NodeSpec& spec) { return std::make_unique<LayerNorm>(spec); }

}  // namespace weft
