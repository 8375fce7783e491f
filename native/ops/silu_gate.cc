#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/weight.h"

namespace weft {

namespace {

// A narrow out is bfloat16, and x then, too.
// out = silu(gate) * up, gate and up the two halves of x, or of each block of columns where they alternate.
class SiluGate final : public Op {
 public:
  explicit SiluGate(const NodeSpec& spec) : x_(spec.input("x")), features_(columns_of(spec, "out")), block_(block_of(spec)) {
    expect_columns(spec, "x", 2 * features_);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < features_; i += block_) run_block(*args.kernels->rows, args.in[x_], row, i, args.out[0]);
  }

 private:
  void run_block(const RowKernels& kernels, const Matrix& x, int64_t row, int64_t first, const Matrix& out) const {
    if (out.dtype == DType::kBF16) {
      kernels.silu_gate_narrow(x.bf16_row(row) + 2 * first, out.bf16_row(row) + first, block_);
    } else if (x.dtype == DType::kBF16) {
      kernels.silu_gate_bf16(x.bf16_row(row) + 2 * first, out.f32_row(row) + first, block_);
    } else {
      kernels.silu_gate(x.f32_row(row) + 2 * first, out.f32_row(row) + first, block_);
    }
  }

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
