#include "ops/adapted_product.h"
#include "ops/adapter_parts.h"
#include "ops/checks.h"
#include "ops/gemm_op.h"
#include "ops/ops.h"
#include "ops/streaming.h"

namespace weft {

namespace {

std::vector<LowPart> forward_parts(const NodeSpec& spec) {
  const GemmWeight weight(spec, "weight");
  std::vector<LowPart> found;
  for (const AdapterPart& part : adapter_parts(spec, "", weight.n, weight.k))
    found.push_back({{part.a->data(), weight.k, 1}, 0, weight.k, {part.b->data(), part.rank, 1}, part.first, part.n,
                     part.rank, part.low});
  return found;
}

std::vector<LowPart> backward_parts(const NodeSpec& spec) {
  const GemmWeight weight(spec, "weight");
  std::vector<LowPart> found;
  for (const AdapterPart& part : adapter_parts(spec, "", weight.n, weight.k))
    found.push_back({{part.b->data(), 1, part.rank}, part.first, part.n, {part.a->data(), 1, weight.k}, 0, weight.k,
                     part.rank, part.low});
  return found;
}

// out = x * weight^T + bias + residual + low * b^T, low = factor * (x * a^T); a and b of each part for its columns.
// A narrow out is bfloat16.
class AdaptedLinear final : public AdaptedProduct {
 public:
  explicit AdaptedLinear(const NodeSpec& spec)
      : AdaptedProduct(spec, most_of(spec), static_cast<float>(spec.number("factor")), forward_parts(spec)),
        weight_(spec, "weight"), bias_(spec.vector_or_null("bias", weight_.n)), x_(spec.input("x")),
        residual_(spec.input_or_none("residual")), is_narrow_(spec.number_or("narrow", 0) != 0),
        parts_(adapter_parts(spec, "", weight_.n, weight_.k)) {
    expect_columns(spec, "x", weight_.k);
    expect_columns(spec, "out", weight_.n);
    expect_columns(spec, "low", total_rank(parts_));
    if (residual_ >= 0) expect_columns(spec, "residual", weight_.n);
    if (weight_.packed && weight_.packed->is_interleaved()) refuse_node(spec, "a plain weight", "an interleaved one");
  }

  void check(const OpArgs& args) const override {
    expect_rows(args.out[0].rows, args.in[x_].rows, "an adapted layer's output");
    if (residual_ >= 0) expect_rows(args.in[residual_].rows, args.in[x_].rows, "an adapted layer's residual");
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
      work.streams = is_streamed(args.out[0], 0);
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
  const std::vector<AdapterPart> parts_;  // keeps them alive
};

// d_x = d_out * weight + residual + d_low * a, d_low = factor * (d_out * b).
class AdaptedLinearInputGrad final : public AdaptedProduct {
 public:
  explicit AdaptedLinearInputGrad(const NodeSpec& spec)
      : AdaptedProduct(spec, most_of(spec), static_cast<float>(spec.number("factor")), backward_parts(spec)),
        weight_(spec, "weight"), d_out_(spec.input("d_out")), residual_(spec.input_or_none("residual")),
        parts_(adapter_parts(spec, "", weight_.n, weight_.k)) {
    expect_columns(spec, "d_out", weight_.n);
    expect_columns(spec, "d_x", weight_.k);
    expect_columns(spec, "d_low", total_rank(parts_));
    if (residual_ >= 0) expect_columns(spec, "residual", weight_.k);
    if (weight_.packed && weight_.packed->is_interleaved()) refuse_node(spec, "a plain weight", "an interleaved one");
  }

  void check(const OpArgs& args) const override {
    expect_rows(args.out[0].rows, args.in[d_out_].rows, "an adapted layer's input gradient");
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
    work.streams = is_streamed(args.out[0], 0);
    return work;
  }

 private:
  static GemmSizes most_of(const NodeSpec& spec) {
    const GemmWeight weight(spec, "weight");
    return {spec.max_rows, weight.k, weight.n};
  }

  const GemmWeight weight_;
  const int d_out_, residual_;
  const std::vector<AdapterPart> parts_;  // keeps them alive
};

}  // namespace

std::unique_ptr<Op> make_adapted_linear(const NodeSpec& spec) { return std::make_unique<AdaptedLinear>(spec); }

std::unique_ptr<Op> make_adapted_linear_input_grad(const NodeSpec& spec) {
  return std::make_unique<AdaptedLinearInputGrad>(spec);
}

}  // namespace weft
