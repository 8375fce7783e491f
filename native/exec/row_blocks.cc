#include "exec/row_blocks.h"

#include <string.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "exec/all_threads.h"
#include "threads/float_mode.h"

namespace weft {

namespace {

constexpr int64_t kSumElements = 4096;          // of the gradients, that a tile adds up
constexpr int64_t kFewElements = 1 << 16;       // which the caller adds up sooner than it wakes others

int64_t total_size(const Tensors& tensors) {
  int64_t size = 0;
  for (const auto& tensor : tensors) {
    if (!tensor) throw Error(ErrorKind::kPlan, "blocks of rows need a tensor for each gradient, got none; pass it");
    size += tensor->size();
  }
  return size;
}

void add_to(float* __restrict sums, const float* __restrict values, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += values[i];
}

// The sum of two runs of numbers, added.
void add_pair_to(float* __restrict sums, const float* __restrict first, const float* __restrict second, int64_t count) {
  for (int64_t i = 0; i < count; ++i) sums[i] += first[i] + second[i];
}

size_t row_bytes(const Matrix& matrix) { return static_cast<size_t>(matrix.columns) * dtype_bytes(matrix.dtype); }

int64_t rows_at_most(const std::vector<std::shared_ptr<Plan>>& plans) {
  const auto has_rows = [](const auto& plan) { return plan && plan->spec().dims.size() == 1; };
  if (plans.empty() || !std::all_of(plans.begin(), plans.end(), has_rows))
    throw Error(ErrorKind::kPlan, "blocks of rows need plans with one dimension; rebuild the plan");
  return plans.front()->spec().dims.front().max;
}

}  // namespace

RowBlocks::RowBlocks(std::vector<std::shared_ptr<Plan>> plans, std::vector<Tensors> own, Tensors sums)
    : plans_(std::move(plans)), own_(std::move(own)), sums_(std::move(sums)), block_rows_(rows_at_most(plans_)),
      slot_size_(total_size(sums_)),
      slots_(static_cast<size_t>(slot_size_ * kMaxGroups) * sizeof(float), "gradients of blocks of rows", Pages::kHuge) {
  const auto fits = [&](const Tensors& tensors) {
    return std::equal(tensors.begin(), tensors.end(), sums_.begin(), sums_.end(),
                      [](const auto& one, const auto& other) { return one && one->size() == other->size(); });
  };
  if (own_.size() != plans_.size() || !std::all_of(own_.begin(), own_.end(), fits))
    throw Error(ErrorKind::kPlan, "blocks of rows need gradients of the sums' sizes for each plan; rebuild the plan");
}

int64_t RowBlocks::rows_of(const std::vector<Matrix>& inputs) const {
  int64_t rows = -1;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (spec().inputs[i].dim < 0) continue;
    if (rows >= 0 && inputs[i].rows != rows)
      throw Error(ErrorKind::kValue, "inputs disagree on their rows: " + std::to_string(rows) + " and " +
                                         std::to_string(inputs[i].rows) + " ('" + spec().inputs[i].name + "')");
    rows = inputs[i].rows;
  }
  return std::max<int64_t>(rows, 0);
}

void RowBlocks::expect_threads(int count) const {
  if (count <= static_cast<int>(plans_.size())) return;
  throw Error(ErrorKind::kThread, "expected a pool of at most " + std::to_string(plans_.size()) + " threads, got " +
                                      std::to_string(count) + "; compile the plan again after a resize");
}

void RowBlocks::prepare_outputs() {
  outputs_.resize(spec().outputs.size());
  for (size_t i = 0; i < outputs_.size(); ++i)
    outputs_[i].resize(static_cast<size_t>(num_rows_) * row_bytes(output(static_cast<int>(i))));
}

void RowBlocks::run(Pool& pool, const std::vector<Matrix>& inputs, Trace* trace) {
  num_rows_ = rows_of(inputs);
  num_blocks_ = (num_rows_ + block_rows_ - 1) / block_rows_;
  num_groups_ = std::min(num_blocks_, kMaxGroups);
  prepare_outputs();
  if (trace) trace->prepare(static_cast<int>(plans_.size()));
  for (auto& done : halves_done_) done.store(0, std::memory_order_relaxed);
  run_on_all(pool, num_groups_, [&](int64_t group, int thread) { run_group(group, thread, inputs, trace); },
             [&](int num_threads) { expect_threads(num_threads); });
  add_to_sums(pool);
}

void RowBlocks::run_group(int64_t group, int thread, const std::vector<Matrix>& inputs, Trace* trace) {
  const Tensors& own = own_[static_cast<size_t>(thread)];
  for (const auto& tensor : own) memset(tensor->data(), 0, static_cast<size_t>(tensor->size()) * sizeof(float));
  for (int64_t block = group * num_blocks_ / num_groups_; block < (group + 1) * num_blocks_ / num_groups_; ++block)
    run_block(block, thread, inputs, trace);
  join_groups(group, own);
}

// All pairs but the last, whose halves mostly lie in the caches of two threads.
void RowBlocks::join_groups(int64_t group, const Tensors& own) {
  int64_t step = 1;
  const bool joins = group % 2 == 1 && num_groups_ > 2 && halves_done_[static_cast<size_t>(group)].load(std::memory_order_acquire) == 1;
  float* slot = slot_of(joins ? group - 1 : group);
  for (const auto& tensor : own) {
    joins ? add_to(slot, tensor->data(), tensor->size())
          : static_cast<void>(memcpy(slot, tensor->data(), static_cast<size_t>(tensor->size()) * sizeof(float)));
    slot += tensor->size();
  }
  if (joins) step = 2;
  for (; 2 * step < num_groups_; step *= 2) {
    group = group / (2 * step) * 2 * step;
    const int64_t second = group + step;
    if (second >= num_groups_) continue;
    if (halves_done_[static_cast<size_t>(second)].fetch_add(1, std::memory_order_acq_rel) == 0) return;
    add_to(slot_of(group), slot_of(second), slot_size_);
  }
}

void RowBlocks::run_block(int64_t block, int thread, const std::vector<Matrix>& inputs, Trace* trace) {
  Plan& plan = *plans_[static_cast<size_t>(thread)];
  const int64_t first = block * block_rows_;
  std::vector<Matrix> views = inputs;
  for (size_t i = 0; i < views.size(); ++i) {
    if (spec().inputs[i].dim < 0) continue;
    views[i].data = static_cast<char*>(views[i].data) + first * views[i].row_stride * dtype_bytes(views[i].dtype);
    views[i].rows = std::min(block_rows_, num_rows_ - first);
  }
  plan.run_alone(views, trace, thread);
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Matrix part = plan.output(static_cast<int>(i));
    const size_t bytes = row_bytes(part);
    char* to = outputs_[i].data() + static_cast<size_t>(first) * bytes;
    for (int64_t row = 0; row < part.rows; ++row)
      memcpy(to + row * bytes, static_cast<const char*>(part.data) + row * part.row_stride * dtype_bytes(part.dtype), bytes);
  }
}

void RowBlocks::add_to_sums(Pool& pool) {
  if (num_groups_ == 0) return;
  const auto add = [&](int64_t tile, int) {
    add_part(tile * kSumElements, std::min(kSumElements, slot_size_ - tile * kSumElements));
  };
  const int64_t tiles = (slot_size_ + kSumElements - 1) / kSumElements;
  if (slot_size_ > kFewElements) return run_on_all(pool, tiles, add);
  const DefaultFloatMode mode;
  for (int64_t tile = 0; tile < tiles; ++tile) add(tile, 0);
}

void RowBlocks::add_part(int64_t first, int64_t count) {
  int64_t half = 1, before = 0;  // groups before the last pair's second half; floats of the tensors before
  while (2 * half < num_groups_) half *= 2;
  for (const auto& tensor : sums_) {
    const int64_t begin = std::max(first, before), size = std::min(first + count, before + tensor->size()) - begin;
    float* sums = tensor->data() + begin - before;
    if (size > 0 && half < num_groups_) {
      add_pair_to(sums, slot_of(0) + begin, slot_of(half) + begin, size);
    } else if (size > 0) {
      add_to(sums, slot_of(0) + begin, size);
    }
    before += tensor->size();
  }
}

Matrix RowBlocks::output(int index) const {
  Matrix view = plans_.front()->output(index);
  view.row_stride = view.columns;
  view.rows = num_rows_;
  view.data = const_cast<char*>(outputs_[static_cast<size_t>(index)].data());
  return view;
}

size_t RowBlocks::memory_bytes() const {
  size_t bytes = slots_.bytes();
  for (const auto& plan : plans_) bytes += plan->memory_bytes();
  for (const auto& tensors : own_) bytes += static_cast<size_t>(total_size(tensors)) * sizeof(float);
  return bytes;
}

}  // namespace weft
