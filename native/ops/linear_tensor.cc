#include "ops/linear_tensor.h"

#include "ops/checks.h"
#include "ops/gemm_op.h"

namespace weft {

namespace {

// out = x * weight^T + bias + residual; `out` may be the residual, and may not overlap x. A narrow one is bfloat16.
class LinearTensor final : public GemmOp {
 public:
  explicit LinearTensor(const NodeSpec& spec)
      : GemmOp(spec, most_of(spec)), weight_(spec, "weight"), bias_(spec.vector_or_null("bias", weight_.n)),
        x_(spec.input("x")), residual_(spec.input_or_none("residual")), is_narrow_(spec.number_or("narrow", 0) != 0) {
    if (!spec.string_or("norm", "").empty() || !spec.string_or("activation", "").empty())
      refuse_node(spec, "a packed weight for a fused form", "a tensor");
    expect_columns(spec, "x", weight_.k);
    expect_columns(spec, "out", weight_.n);
    if (residual_ >= 0) expect_columns(spec, "residual", weight_.n);
  }

  void check(const OpArgs& args) const override {
    expect_rows(args.out[0].rows, args.in[x_].rows, "a linear layer's output");
    if (residual_ >= 0) expect_rows(args.in[residual_].rows, args.in[x_].rows, "a linear layer's residual");
  }

 protected:
  GemmProduct product(const OpArgs& args) const override {
    const Matrix& x = args.in[x_];
    GemmProduct work = {form_, {x.rows, weight_.n, weight_.k}, GemmOperand::by_row(x),
                        weight_.forward()};
    work.bias = bias_.get();
    if (residual_ >= 0) add_residual(work, args.in[residual_]);
    if (is_narrow_) {
      work.out_bf16 = args.out[0].bf16_row(0);
    } else {
      work.out = args.out[0].f32_row(0);
    }
    work.out_stride = args.out[0].row_stride;
    return work;
  }

 private:
  static GemmSizes most_of(const NodeSpec& spec) {
    const GemmWeight weight(spec, "weight");
    return {spec.max_rows, weight.n, weight.k};
  }

  const GemmWeight weight_;
  const Vector bias_;
  const int x_, residual_;
  const bool is_narrow_;
};

}  // namespace

std::unique_ptr<Op> make_linear_tensor(const NodeSpec& spec) { return std::make_unique<LinearTensor>(spec); }

}  // namespace weft
