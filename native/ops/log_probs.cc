#include "ops/checks.h"
#include "ops/logits.h"
#include "ops/ops.h"

namespace weft {

namespace {

// out[r] = logits[r, targets[r]] - log(sum of e^logits[r]), the same bits as the sample operation's.
class LogProbs final : public Op {
 public:
  explicit LogProbs(const NodeSpec& spec)
      : logits_(spec.input("logits")), targets_(spec.input("targets")), vocabulary_(columns_of(spec, "logits")) {
    expect_columns(spec, "targets", 1);
    expect_columns(spec, "out", 1);
  }

  bool row_wise() const override { return true; }
  size_t scratch_bytes() const override { return summary_floats(vocabulary_) * sizeof(float); }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[targets_], args.in[logits_].rows, vocabulary_, "targets");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int thread) const override {
    args.scratch[thread].owner = nullptr;
    WantedSums wanted;
    wanted.raw = true;
    for (int64_t row = begin; row < end; ++row) {
      const LogitRow logits = {args.in[logits_].f32_row(row), vocabulary_};
      const LogitSummary summary(static_cast<float*>(args.scratch[thread].data), logits);
      summarise(*args.kernels->sampling, logits, wanted, summary);
      const int32_t target = *args.in[targets_].i32_row(row);
      *args.out[0].f32_row(row) = static_cast<float>(logits.values[target] - log_sum_exp(logits, summary));
    }
  }

 private:
  int logits_, targets_;
  int64_t vocabulary_;
};

}  // namespace

std::unique_ptr<Op> make_log_probs(const NodeSpec& spec) { return std::make_unique<LogProbs>(spec); }

}  // namespace weft
