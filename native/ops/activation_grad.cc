// tanh, and the gradients of the activations.
#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// d_x = (d_out * up * silu'(gate), d_out * silu(gate)), gate and up the two halves of x. A narrow d_x is
// bfloat16, and x then, too.
class SiluGateGrad final : public Op {
 public:
  explicit SiluGateGrad(const NodeSpec& spec)
      : x_(spec.input("x")), d_out_(spec.input("d_out")), features_(columns_of(spec, "d_out")) {
    for (const char* name : {"x", "d_x"}) expect_columns(spec, name, 2 * features_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    const RowGradientKernels& kernels = *args.kernels->row_gradients;
    const Matrix &x = args.in[x_], &d_x = args.out[0];
    for (int64_t row = begin; row < end; ++row) {
      const float* d_out = args.in[d_out_].f32_row(row);
      if (d_x.dtype == DType::kBF16) {
        kernels.silu_gate_narrow(x.bf16_row(row), d_out, d_x.bf16_row(row), features_);
      } else if (x.dtype == DType::kBF16) {
        kernels.silu_gate_bf16(x.bf16_row(row), d_out, d_x.f32_row(row), features_);
      } else {
        kernels.silu_gate(x.f32_row(row), d_out, d_x.f32_row(row), features_);
      }
    }
  }

 private:
  int x_, d_out_;
  int64_t features_;
};

// One function of each element of one or two operands.
class Elementwise : public Op {
 public:
  Elementwise(const NodeSpec& spec, const char* first, const char* second, const char* out)
      : first_(spec.input(first)), second_(second ? spec.input(second) : -1), columns_(columns_of(spec, first)) {
    if (second) expect_columns(spec, second, columns_);
    expect_columns(spec, out, columns_);
  }

  bool row_wise() const override { return true; }

 protected:
  int first_, second_;
  int64_t columns_;
};

// d_x = d_out * (the derivative of gelu at x)
class GeluGrad final : public Elementwise {
 public:
  explicit GeluGrad(const NodeSpec& spec) : Elementwise(spec, "x", "d_out", "d_x") {
    const std::string approximate = spec.string_or("approximate", "none");
    if (approximate != "none" && approximate != "tanh") refuse_node(spec, "approximate 'none' or 'tanh'", approximate);
    by_tanh_ = approximate == "tanh";
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    const auto gelu = by_tanh_ ? args.kernels->row_gradients->gelu_tanh : args.kernels->row_gradients->gelu_erf;
    for (int64_t row = begin; row < end; ++row)
      gelu(args.in[first_].f32_row(row), args.in[second_].f32_row(row), args.out[0].f32_row(row), columns_);
  }

 private:
  bool by_tanh_ = false;
};

class Tanh final : public Elementwise {
 public:
  explicit Tanh(const NodeSpec& spec) : Elementwise(spec, "x", nullptr, "out") {}

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      args.kernels->row_gradients->tanh(args.in[first_].f32_row(row), args.out[0].f32_row(row), columns_);
  }
};

// d_x = d_out * (1 - out^2), out the result of tanh
class TanhGrad final : public Elementwise {
 public:
  explicit TanhGrad(const NodeSpec& spec) : Elementwise(spec, "out", "d_out", "d_x") {}

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      args.kernels->row_gradients->tanh_grad(args.in[first_].f32_row(row), args.in[second_].f32_row(row),
                                             args.out[0].f32_row(row), columns_);
  }
};

}  // namespace

std::unique_ptr<Op> make_silu_gate_grad(const NodeSpec& spec) { return std::make_unique<SiluGateGrad>(spec); }
std::unique_ptr<Op> make_gelu_grad(const NodeSpec& spec) { return std::make_unique<GeluGrad>(spec); }
std::unique_ptr<Op> make_tanh(const NodeSpec& spec) { return std::make_unique<Tanh>(spec); }
std::unique_ptr<Op> make_tanh_grad(const NodeSpec& spec) { return std::make_unique<TanhGrad>(spec); }

}  // namespace weft
