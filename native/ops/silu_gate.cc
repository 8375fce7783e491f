#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out = silu(gate) * up, gate and up the two halves of x.
class SiluGate final : public Op {
 public:
  explicit SiluGate(const NodeSpec& spec) : x_(spec.input("x")), features_(columns_of(spec, "out")) {
    expect_columns(spec, "x", 2 * features_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      args.kernels->rows->silu_gate(args.in[x_].f32_row(row), args.out[0].f32_row(row), features_);
  }

 private:
  int x_;
  int64_t features_;
};

}  // namespace

std::unique_ptr<Op> make_silu_gate(const NodeSpec& spec) { return std::make_unique<SiluGate>(spec); }

}  // namespace weft
