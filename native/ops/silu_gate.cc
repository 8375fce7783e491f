#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/weight.h"

namespace weft {

namespace {

// out = silu(gate) * up, gate and up the two halves of x, or of each block of columns where they alternate.
class SiluGate final : public Op {
 public:
  explicit SiluGate(const NodeSpec& spec) : x_(spec.input("x")), features_(columns_of(spec, "out")), block_(block_of(spec)) {
    expect_columns(spec, "x", 2 * features_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    const Matrix& x = args.in[x_];
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t i = 0; i < features_; i += block_) {
        float* out = args.out[0].f32_row(row) + i;
        x.dtype == DType::kBF16 ? args.kernels->rows->silu_gate_bf16(x.bf16_row(row) + 2 * i, out, block_)
                                : args.kernels->rows->silu_gate(x.f32_row(row) + 2 * i, out, block_);
      }
    }
  }

 private:
  int64_t block_of(const NodeSpec& spec) const {
    const int64_t block = spec.number_or("alternating", 0) != 0 ? kPanelColumns / 2 : features_;
    if (features_ % block) refuse_node(spec, "whole blocks of columns", std::to_string(features_) + " features");
    return block;
  }

  int x_;
  int64_t features_, block_;
};

}  // namespace

std::unique_ptr<Op> make_silu_gate(const NodeSpec& spec) { return std::make_unique<SiluGate>(spec); }

}  // namespace weft
