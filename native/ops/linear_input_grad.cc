#include "ops/checks.h"
#include "ops/gemm_op.h"
#include "ops/ops.h"

namespace weft {

namespace {

// d_x = d_out * weight + residual; `d_x` may be the residual, and may not overlap d_out.
class LinearInputGrad final : public GemmOp {
 public:
  explicit LinearInputGrad(const NodeSpec& spec)
      : GemmOp(spec, most_of(spec)), weight_(spec, "weight"), d_out_(spec.input("d_out")),
        residual_(spec.input_or_none("residual")) {
    expect_columns(spec, "d_out", weight_.n);
    expect_columns(spec, "d_x", weight_.k);
    if (residual_ >= 0) expect_columns(spec, "residual", weight_.k);
    if (weight_.packed && weight_.packed->is_interleaved()) refuse_node(spec, "a plain weight", "an interleaved one");
  }

  void check(const OpArgs& args) const override {
    expect_rows(args.out[0].rows, args.in[d_out_].rows, "a linear layer's input gradient");
    if (residual_ >= 0) expect_rows(args.in[residual_].rows, args.in[d_out_].rows, "the gradient to add");
  }

 protected:
  GemmProduct product(const OpArgs& args) const override {
    const Matrix& d_out = args.in[d_out_];
    GemmProduct work = {form_, {d_out.rows, weight_.k, weight_.n},
                        GemmOperand::by_row(d_out), weight_.backward()};
    if (residual_ >= 0) add_residual(work, args.in[residual_]);
    work.out = args.out[0].f32_row(0);
    work.out_stride = args.out[0].row_stride;
    return work;
  }

 private:
  static GemmSizes most_of(const NodeSpec& spec) {
    const GemmWeight weight(spec, "weight");
    return {spec.max_rows, weight.k, weight.n};
  }

  const GemmWeight weight_;
  const int d_out_, residual_;
};

}  // namespace

std::unique_ptr<Op> make_linear_input_grad(const NodeSpec& spec) { return std::make_unique<LinearInputGrad>(spec); }

}  // namespace weft
