#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/weight.h"

namespace weft {

namespace {

// out[r] = table[tokens[r]]
class Embedding final : public Op {
 public:
  explicit Embedding(const NodeSpec& spec) : tokens_(spec.input("tokens")) {
    const Weight& table = *spec.weight("table");
    table_ = spec.weights.at("table");
    if (table.is_interleaved()) refuse_node(spec, "a table with its rows in order", "an interleaved one");
    expect_columns(spec, "out", table.k());
    expect_columns(spec, "tokens", 1);
  }

  bool row_wise() const override { return true; }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[tokens_], args.out[0].rows, table_->n(), "tokens");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row)
      table_->dequantize_row(*args.in[tokens_].i32_row(row), args.out[0].f32_row(row));
  }

 private:
  int tokens_;
  std::shared_ptr<const Weight> table_;
};

}  // namespace

std::unique_ptr<Op> make_embedding(const NodeSpec& spec) { return std::make_unique<Embedding>(spec); }

}  // namespace weft
