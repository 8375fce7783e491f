#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out = x * (the normal distribution function of x), exactly or by the tanh formula.
class Gelu final : public Op {
 public:
  explicit Gelu(const NodeSpec& spec) : x_(spec.input("x")), columns_(columns_of(spec, "x")) {
    const std::string approximate = spec.string_or("approximate", "none");
    if (approximate != "none" && approximate != "tanh") refuse_node(spec, "approximate 'none' or 'tanh'", approximate);
    by_tanh_ = approximate == "tanh";
    expect_columns(spec, "out", columns_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    const auto gelu = by_tanh_ ? args.kernels->rows->gelu_tanh : args.kernels->rows->gelu_erf;
    for (int64_t row = begin; row < end; ++row) gelu(args.in[x_].f32_row(row), args.out[0].f32_row(row), columns_);
  }

 private:
  int x_;
  int64_t columns_;
  bool by_tanh_ = false;
};

}  // namespace

std::unique_ptr<Op> make_gelu(const NodeSpec& spec) { return std::make_unique<Gelu>(spec); }

}  // namespace weft
