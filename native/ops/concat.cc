#include <string.h>

#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out[r] = part0[r], part1[r], ... side by side; a part that lies there already is left
class Concat final : public Op {
 public:
  explicit Concat(const NodeSpec& spec) {
    int64_t columns = 0;
    for (int i = 0;; ++i) {
      const std::string name = "part" + std::to_string(i);
      const int part = spec.input_or_none(name);
      if (part < 0) break;
      parts_.push_back({part, columns, columns_of(spec, name)});
      columns += parts_.back().columns;
    }
    expect_columns(spec, "out", columns);
  }

  bool row_wise() const override { return true; }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row) {
      for (const Part& part : parts_) {
        float* to = args.out[0].f32_row(row) + part.first;
        const float* from = args.in[part.operand].f32_row(row);
        if (from != to) memcpy(to, from, static_cast<size_t>(part.columns) * sizeof(float));
      }
    }
  }

 private:
  struct Part {
    int operand;
    int64_t first, columns;
  };
  std::vector<Part> parts_;
};

}  // namespace

std::unique_ptr<Op> make_concat(const NodeSpec& spec) { return std::make_unique<Concat>(spec); }

}  // namespace weft
