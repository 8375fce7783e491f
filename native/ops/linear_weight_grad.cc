#include <algorithm>

#include "memory/tensor.h"
#include "ops/checks.h"
#include "ops/gemm_op.h"
#include "ops/ops.h"

namespace weft {

namespace {

constexpr int64_t kSumColumns = 64;  // of d_bias that a tile adds up

// d_weight += d_out^T * x;  d_bias += the column sums of d_out, of blocks of kSumRows rows, ascending.
class LinearWeightGrad final : public GemmOp {
 public:
  explicit LinearWeightGrad(const NodeSpec& spec)
      : GemmOp(spec, {columns_of(spec, "d_out"), columns_of(spec, "x"), spec.max_rows}), x_(spec.input("x")),
        d_out_(spec.input("d_out")), n_(columns_of(spec, "d_out")), k_(columns_of(spec, "x")),
        d_weight_(tensor_of(spec, "d_weight", n_, k_)), d_bias_(spec.tensor_or_null("d_bias", 1, n_)) {}

  void check(const OpArgs& args) const override {
    expect_rows(args.in[d_out_].rows, args.in[x_].rows, "a linear layer's output gradient");
  }

  // The sums go with the packing, which reads the same matrix.
  int64_t num_tiles(int phase, const OpArgs& args) const override {
    return GemmOp::num_tiles(phase, args) + (phase == 0 ? num_sum_tiles() : 0);
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    const int64_t sums = phase == 0 ? num_sum_tiles() : 0;
    tile < sums ? sum_columns(tile * kSumColumns, args) : GemmOp::run_tile(phase, tile - sums, args, thread);
  }

 protected:
  GemmProduct product(const OpArgs& args) const override {
    const Matrix &x = args.in[x_], &d_out = args.in[d_out_];
    GemmProduct work = {form_, {n_, k_, x.rows}, GemmOperand::by_input(d_out),
                        GemmOperand::by_input(x)};
    work.addend = work.out = d_weight_->data();
    work.addend_stride = work.out_stride = k_;
    return work;
  }

 private:
  int64_t num_sum_tiles() const { return d_bias_ ? (n_ + kSumColumns - 1) / kSumColumns : 0; }

  void sum_columns(int64_t first, const OpArgs& args) const {
    const Matrix& d_out = args.in[d_out_];
    for (int64_t row = 0; row < d_out.rows; row += kSumRows)
      kernels_.add_column_sums(d_out.f32_row(row) + first, d_out.row_stride, std::min(kSumRows, d_out.rows - row),
                               std::min(kSumColumns, n_ - first), d_bias_->data() + first);
  }

  const int x_, d_out_;
  const int64_t n_, k_;
  const std::shared_ptr<Tensor> d_weight_, d_bias_;
};

}  // namespace

std::unique_ptr<Op> make_linear_weight_grad(const NodeSpec& spec) { return std::make_unique<LinearWeightGrad>(spec); }

}  // namespace weft
