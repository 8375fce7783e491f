// A plan of training whose rows know nothing of one another, run in blocks of rows: all operations of a block on one
// thread, so that what passes between them stays in its caches, and no thread waits for another until the end.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <vector>

#include "exec/optimizer.h"
#include "exec/plan.h"
#include "exec/turns.h"
#include "memory/region.h"

namespace weft {

// Equals, whatever the threads,
//
//   for each group of neighbouring blocks:  own = 0;  for each of its blocks: run the plan, which adds to `own`;
//                                           slot[group] = own
//   sums += the slots, added up in pairs, pairs of pairs and so on
//
// where the rows alone decide about blocks and groups. Whoever ends the second group of a pair adds the two, mostly
// out of its own caches. Runs take turns.
class RowBlocks {
 public:
  static constexpr int64_t kMaxGroups = 8;

  // plans: one for each thread, of `block_rows` rows at most. own[thread]: the tensors that its plan adds to, of the
  // sizes of `sums`. Throws Error(kPlan) unless they fit.
  RowBlocks(std::vector<std::shared_ptr<Plan>> plans, std::vector<Tensors> own, Tensors sums);

  // As Plan::run, on all threads of `pool`. Throws Error(kThread) when it has more of them than there are plans.
  void run(Pool& pool, const std::vector<Matrix>& inputs, Trace* trace);

  Matrix output(int index) const;
  Turns& turns() { return turns_; }
  const PlanSpec& spec() const { return plans_.front()->spec(); }
  size_t memory_bytes() const;

 private:
  int64_t rows_of(const std::vector<Matrix>& inputs) const;
  void expect_threads(int count) const;
  void prepare_outputs();
  void run_group(int64_t group, int thread, const std::vector<Matrix>& inputs, Trace* trace);
  void run_block(int64_t block, int thread, const std::vector<Matrix>& inputs, Trace* trace);
  float* slot_of(int64_t group) const { return static_cast<float*>(slots_.data()) + group * slot_size_; }
  void join_groups(int64_t group, const Tensors& own);
  void add_to_sums(Pool& pool);
  void add_part(int64_t first, int64_t count);

  const std::vector<std::shared_ptr<Plan>> plans_;
  const std::vector<Tensors> own_;
  const Tensors sums_;
  const int64_t block_rows_;
  int64_t slot_size_ = 0;  // floats of a slot: all tensors, one after another
  Region slots_;
  std::array<std::atomic<int>, kMaxGroups> halves_done_ = {};  // of the pair whose second half begins at a group
  int64_t num_rows_ = 0, num_blocks_ = 0, num_groups_ = 0;  // of the last run
  std::vector<std::vector<char>> outputs_;
  Turns turns_;
};

}  // namespace weft
