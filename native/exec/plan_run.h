// One run of a plan that is bound to its inputs, as the job of a team. Spans of its thread 0 go to lane `first_lane`
// of the trace.
#pragma once

#include <algorithm>

#include "exec/plan.h"
#include "threads/job.h"

namespace weft {

class PlanRun final : public Job {
 public:
  PlanRun(Plan& plan, Trace* trace, int first_lane = 0) : plan_(plan), trace_(trace), first_lane_(first_lane) {}

  // Only now is it certain how many threads there are: a pool may be resized while a run waits for its turn.
  void begin(int num_threads) override {
    plan_.set_threads(num_threads);
    if (trace_) trace_->prepare(first_lane_ + num_threads);
  }

  int64_t num_phases() const override { return static_cast<int64_t>(plan_.phases_.size()); }

  // Few rows read the weights and compute little. A timeline shows the whole team at work.
  bool is_short() const override {
    constexpr int64_t kFewRows = 8;
    const auto is_few = [](int64_t rows) { return rows <= kFewRows; };
    return !trace_ && std::all_of(plan_.rows_.begin(), plan_.rows_.end(), is_few);
  }

  int64_t num_tiles(int64_t index) const override {
    const Plan::Phase& phase = plan_.phases_[index];
    const OpArgs& args = plan_.args_[phase.first_node];
    const Op& op = *plan_.ops_[phase.first_node];
    if (!phase.chain) return op.num_tiles(phase.op_phase, args);
    const int64_t per_tile = rows_per_tile(op.num_rows(args));
    return (op.num_rows(args) + per_tile - 1) / per_tile;
  }

  void run_tile(int64_t index, int64_t tile, int thread) override {
    const Plan::Phase& phase = plan_.phases_[index];
    const int64_t begin_ns = trace_ ? steady_now_ns() : 0;
    if (phase.chain) {
      run_chain(phase, tile, thread);
    } else {
      plan_.ops_[phase.first_node]->run_tile(phase.op_phase, tile, plan_.args_[phase.first_node], thread);
    }
    if (trace_) trace_->record(first_lane_ + thread, phase.first_node, phase.op_phase, begin_ns, steady_now_ns());
  }

 private:
  // A few tiles a thread, so that a thread that is held up can be helped.
  int64_t rows_per_tile(int64_t rows) const {
    const int64_t wanted_tiles = int64_t{4} * plan_.num_threads_;
    return std::max<int64_t>(1, (rows + wanted_tiles - 1) / wanted_tiles);
  }

  void run_chain(const Plan::Phase& phase, int64_t tile, int thread) {
    const int64_t rows = plan_.ops_[phase.first_node]->num_rows(plan_.args_[phase.first_node]);
    const int64_t per_tile = rows_per_tile(rows);
    const int64_t begin = tile * per_tile;
    const int64_t end = std::min(rows, begin + per_tile);
    const int end_node = phase.first_node + phase.num_nodes;
    for (int node = phase.first_node; node < end_node; ++node)
      plan_.ops_[node]->ask_for_rows(begin, end, plan_.args_[node]);
    for (int node = phase.first_node; node < end_node; ++node) {
      plan_.ops_[node]->run_rows(begin, end, plan_.args_[node], thread);
    }
  }

  Plan& plan_;
  Trace* trace_;
  int first_lane_;
};

}  // namespace weft
