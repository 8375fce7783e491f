#include "ops/sample.h"

#include <math.h>

#include <algorithm>
#include <numeric>

#include "ops/checks.h"
#include "ops/logits.h"
#include "ops/ops.h"
#include "ops/sample_draw.h"
#include "ops/sample_settings.h"
#include "threads/gate.h"

namespace weft {

namespace {

// Phase 0 summarises the logits, a tile being a row or, when rows are few, a chunk of one; phase 1 chooses a
// token for each row.
class Sample final : public Op {
 public:
  explicit Sample(const NodeSpec& spec);

  int num_phases() const override { return 2; }
  size_t scratch_bytes() const override;
  size_t shared_bytes() const override { return max_rows_ * summary_floats(vocabulary_) * sizeof(float); }
  void check(const OpArgs& args) const override;
  int64_t num_tiles(int phase, const OpArgs& args) const override;
  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override;

 private:
  // A thread's memory.
  struct Scratch {
    DrawScratch draw;
    float* adjusted;
    float* summary;
    uint32_t* seen;
  };

  LogitRow row_of(const OpArgs& args, int64_t row) const { return {args.in[operands_.logits].f32_row(row), vocabulary_}; }
  LogitSummary summary_of(const OpArgs& args, int64_t row) const;
  Scratch scratch_of(const OpArgs& args, int thread) const;
  int64_t chunks_per_tile(const OpArgs& args) const;
  void summarise_chunks(const OpArgs& args, int64_t row, int64_t begin, int64_t end) const;
  int32_t choose(const OpArgs& args, int64_t row, const SampleSettings& settings, const Scratch& scratch) const;
  void write_log_probs(const OpArgs& args, int64_t row, const SampleSettings& settings, int32_t token,
                       const Scratch& scratch) const;
  void write_top(const OpArgs& args, int64_t row, int64_t num_top, double log_total, const Scratch& scratch) const;

  SampleOperands operands_;
  int tokens_, log_probs_, top_ids_, top_log_probs_;
  int64_t vocabulary_, max_rows_;
};

Sample::Sample(const NodeSpec& spec)
    : operands_{spec.input("logits"),   spec.input("real_settings"), spec.input("int_settings"), spec.input("history"),
                spec.input("bias_ids"), spec.input("bias_values"),   spec.input("mask_words")},
      tokens_(spec.output("tokens")), log_probs_(spec.output("log_probs")), top_ids_(spec.output("top_ids")),
      top_log_probs_(spec.output("top_log_probs")), vocabulary_(columns_of(spec, "logits")),
      max_rows_(std::max<int64_t>(1, spec.max_rows)) {
  expect_columns(spec, "real_settings", kRealSettings);
  expect_columns(spec, "int_settings", kIntSettings);
  for (const char* name : {"history", "bias_ids", "bias_values", "mask_words", "tokens", "log_probs"})
    expect_columns(spec, name, 1);
  for (const char* name : {"top_ids", "top_log_probs"}) expect_columns(spec, name, kMaxTopLogProbs);
}

size_t Sample::scratch_bytes() const {
  return (4 * vocabulary_ + summary_floats(vocabulary_) + (vocabulary_ + 31) / 32) * sizeof(float);
}

Sample::Scratch Sample::scratch_of(const OpArgs& args, int thread) const {
  args.scratch[thread].owner = nullptr;
  float* memory = static_cast<float*>(args.scratch[thread].data);
  Scratch scratch;
  scratch.draw = {memory, memory + vocabulary_, reinterpret_cast<int32_t*>(memory + 2 * vocabulary_)};
  scratch.adjusted = memory + 3 * vocabulary_;
  scratch.summary = memory + 4 * vocabulary_;
  scratch.seen = reinterpret_cast<uint32_t*>(scratch.summary + summary_floats(vocabulary_));
  return scratch;
}

LogitSummary Sample::summary_of(const OpArgs& args, int64_t row) const {
  return {static_cast<float*>(args.shared) + row * summary_floats(vocabulary_), row_of(args, row)};
}

void Sample::check(const OpArgs& args) const {
  const int64_t rows = args.in[operands_.logits].rows;
  expect_rows(args.in[operands_.real_settings].rows, rows, "real_settings");
  expect_rows(args.in[operands_.int_settings].rows, rows, "int_settings");
  for (int64_t row = 0; row < rows; ++row) check_sample_settings(args, operands_, row, vocabulary_);
}

int64_t Sample::chunks_per_tile(const OpArgs& args) const {
  const LogitRow row = {nullptr, vocabulary_};
  return args.in[operands_.logits].rows >= 4 * args.num_threads ? row.num_chunks() : 1;
}

int64_t Sample::num_tiles(int phase, const OpArgs& args) const {
  const int64_t rows = args.in[operands_.logits].rows;
  if (phase == 1) return rows;
  const LogitRow row = {nullptr, vocabulary_};
  return rows * (row.num_chunks() / chunks_per_tile(args));
}

void Sample::run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const {
  if (phase == 0) {
    const LogitRow row = {nullptr, vocabulary_};
    const int64_t per_tile = chunks_per_tile(args), tiles = row.num_chunks() / per_tile;
    const int64_t first = tile % tiles * per_tile;
    return summarise_chunks(args, tile / tiles, first, first + per_tile);
  }
  const Scratch scratch = scratch_of(args, thread);
  const SampleSettings settings = sample_settings(args, operands_, tile);
  if (settings.mask.size > 0 && args.gate) args.gate->wait();
  check_mask_allows(tile, settings.mask, vocabulary_);
  const int32_t token = choose(args, tile, settings, scratch);
  *args.out[tokens_].i32_row(tile) = token;
  write_log_probs(args, tile, settings, token, scratch);
}

void Sample::summarise_chunks(const OpArgs& args, int64_t row, int64_t begin, int64_t end) const {
  const SampleSettings settings = sample_settings(args, operands_, row);
  WantedSums wanted = sums_for_draw(settings, vocabulary_);
  wanted.raw = settings.wants_log_prob || settings.num_top > 0;
  if (settings.adjusts_logits()) {
    if (!wanted.raw) return;  // the draw summarises what the adjusted logits are
    wanted.scaled = false;
  }
  for (int64_t chunk = begin; chunk < end; ++chunk)
    summarise_chunk(*args.kernels->sampling, row_of(args, row), chunk, wanted, summary_of(args, row));
}

int32_t Sample::choose(const OpArgs& args, int64_t row, const SampleSettings& settings, const Scratch& scratch) const {
  const SamplingKernels& kernels = *args.kernels->sampling;
  const LogitRow logits = row_of(args, row);
  if (!settings.adjusts_logits()) return draw_token(kernels, settings, logits, summary_of(args, row), scratch.draw);
  adjust_logits(settings, logits.values, vocabulary_, scratch.adjusted, scratch.seen);
  const LogitRow adjusted = {scratch.adjusted, vocabulary_};
  const LogitSummary summary(scratch.summary, adjusted);
  summarise(kernels, adjusted, sums_for_draw(settings, vocabulary_), summary);
  return draw_token(kernels, settings, adjusted, summary, scratch.draw);
}

void Sample::write_log_probs(const OpArgs& args, int64_t row, const SampleSettings& settings, int32_t token,
                             const Scratch& scratch) const {
  *args.out[log_probs_].f32_row(row) = 0.0f;
  if (!settings.wants_log_prob && settings.num_top == 0) return write_top(args, row, 0, 0.0, scratch);
  const LogitRow logits = row_of(args, row);
  const double log_total = log_sum_exp(logits, summary_of(args, row));
  if (settings.wants_log_prob) *args.out[log_probs_].f32_row(row) = static_cast<float>(logits.values[token] - log_total);
  write_top(args, row, settings.num_top, log_total, scratch);
}

void Sample::write_top(const OpArgs& args, int64_t row, int64_t num_top, double log_total, const Scratch& scratch) const {
  int32_t* top_ids = args.out[top_ids_].i32_row(row);
  float* top_log_probs = args.out[top_log_probs_].f32_row(row);
  std::fill_n(top_ids, kMaxTopLogProbs, 0);
  std::fill_n(top_log_probs, kMaxTopLogProbs, -INFINITY);
  if (num_top == 0) return;
  const SamplingKernels& kernels = *args.kernels->sampling;
  const LogitRow logits = row_of(args, row);
  const LogitSummary summary = summary_of(args, row);
  const float bound = reached_by(kernels, logits, summary, num_top);
  const DrawScratch& room = scratch.draw;
  const int64_t count = gather_logits(kernels, logits, summary, bound, room.values, room.ids);
  int32_t* order = reinterpret_cast<int32_t*>(room.weights);
  std::iota(order, order + count, 0);
  const int64_t kept = std::min(num_top, count);
  std::partial_sort(order, order + kept, order + count, [&](int32_t a, int32_t b) {
    return room.values[a] > room.values[b] || (room.values[a] == room.values[b] && a < b);
  });
  for (int64_t i = 0; i < kept; ++i) {
    top_ids[i] = room.ids[order[i]];
    top_log_probs[i] = static_cast<float>(room.values[order[i]] - log_total);
  }
}

}  // namespace

std::unique_ptr<Op> make_sample(const NodeSpec& spec) { return std::make_unique<Sample>(spec); }

}  // namespace weft
