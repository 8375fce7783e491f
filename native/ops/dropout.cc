#include <algorithm>
#include <cmath>

#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out[r, c] = x[r, c] / (1 - rate), or 0 with probability `rate`: what is drawn is a function of the seed, the
// stream, and row_ids[r] * columns + c. The same operation on a gradient is its gradient.
class Dropout final : public Op {
 public:
  explicit Dropout(const NodeSpec& spec)
      : x_(spec.input("x")), row_ids_(spec.input("row_ids")), seed_(spec.input("seed")), columns_(columns_of(spec, "x")),
        stream_(static_cast<uint64_t>(integer(spec, "stream", 0))) {
    const double rate = spec.number("rate");
    if (!(rate >= 0.0 && rate < 1.0)) refuse_node(spec, "a rate from 0 to below 1", std::to_string(rate));
    // uniform = (bits + 1/2) / 2^23 is at least the rate when its 23 bits are at least this.
    threshold_ = static_cast<uint32_t>(std::max(0.0, std::ceil(std::ldexp(rate, 23) - 0.5)));
    scale_ = static_cast<float>(1.0 / (1.0 - rate));
    expect_columns(spec, "row_ids", 1);
    expect_columns(spec, "seed", 2);
    expect_columns(spec, "out", columns_);
  }

  bool row_wise() const override { return true; }

  void check(const OpArgs& args) const override {
    expect_rows(args.in[row_ids_].rows, args.in[x_].rows, "dropout's row_ids");
    expect_rows(args.in[seed_].rows, 1, "dropout's seed");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    const uint32_t* words = static_cast<const uint32_t*>(args.in[seed_].data);
    const uint64_t seed = (uint64_t{words[1]} << 32) | words[0];
    const Matrix& row_ids = args.in[row_ids_];
    for (int64_t row = begin; row < end; ++row) {
      const int64_t id = static_cast<const int64_t*>(row_ids.data)[row * row_ids.row_stride];
      const uint64_t position = static_cast<uint64_t>(id) * static_cast<uint64_t>(columns_);
      args.kernels->row_gradients->dropout(args.in[x_].f32_row(row), args.out[0].f32_row(row), columns_, seed, stream_,
                                           position, threshold_, scale_);
    }
  }

 private:
  int x_, row_ids_, seed_;
  int64_t columns_;
  uint64_t stream_;
  uint32_t threshold_ = 0;
  float scale_ = 1.0f;
};

}  // namespace

std::unique_ptr<Op> make_dropout(const NodeSpec& spec) { return std::make_unique<Dropout>(spec); }

}  // namespace weft
