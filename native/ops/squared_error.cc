#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// loss[r] = mean over columns of (x[r] - targets[r])^2; d_x is the gradient of the sum of loss_weights * loss.
class SquaredError final : public Op {
 public:
  explicit SquaredError(const NodeSpec& spec)
      : x_(spec.input("x")), targets_(spec.input("targets")), loss_weights_(spec.input("loss_weights")),
        loss_(spec.output("loss")), d_x_(spec.output("d_x")), columns_(columns_of(spec, "x")) {
    for (const char* name : {"targets", "d_x"}) expect_columns(spec, name, columns_);
    for (const char* name : {"loss_weights", "loss"}) expect_columns(spec, name, 1);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row) {
      const float weight = *args.in[loss_weights_].f32_row(row);
      *args.out[loss_].f32_row(row) = args.kernels->row_gradients->squared_error(
          args.in[x_].f32_row(row), args.in[targets_].f32_row(row), weight, args.out[d_x_].f32_row(row), columns_);
    }
  }

 private:
  int x_, targets_, loss_weights_, loss_, d_x_;
  int64_t columns_;
};

}  // namespace

std::unique_ptr<Op> make_squared_error(const NodeSpec& spec) { return std::make_unique<SquaredError>(spec); }

}  // namespace weft
