#include <string.h>

#include "memory/tensor.h"
#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/weight.h"

namespace weft {

namespace {

// out[r] = table[tokens[r][0]], table[tokens[r][1]], ... side by side. The table is packed, or a tensor.
class Embedding final : public Op {
 public:
  explicit Embedding(const NodeSpec& spec) : tokens_(spec.input("tokens")), width_(columns_of(spec, "tokens")) {
    tensor_ = spec.tensor_or_null("table");
    if (!tensor_) {
      spec.weight("table");
      table_ = spec.weights.at("table");
      if (table_->is_interleaved()) refuse_node(spec, "a table with its rows in order", "an interleaved one");
    }
    columns_ = tensor_ ? tensor_->columns() : table_->k();
    expect_columns(spec, "out", width_ * columns_);
  }

  bool row_wise() const override { return true; }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[tokens_], args.out[0].rows, tensor_ ? tensor_->rows() : table_->n(), "tokens");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t i = 0; i < width_; ++i)
        copy_row(args.in[tokens_].i32_row(row)[i], args.out[0].f32_row(row) + i * columns_);
  }

 private:
  void copy_row(int64_t index, float* to) const {
    if (tensor_) {
      memcpy(to, tensor_->row(index), static_cast<size_t>(columns_) * sizeof(float));
    } else {
      table_->dequantize_row(index, to);
    }
  }

  int tokens_;
  int64_t width_, columns_;
  std::shared_ptr<const Weight> table_;
  std::shared_ptr<Tensor> tensor_;
};

}  // namespace

std::unique_ptr<Op> make_embedding(const NodeSpec& spec) { return std::make_unique<Embedding>(spec); }

}  // namespace weft
