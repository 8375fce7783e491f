// Runs of a plan one after another, each fed with what the one before gave.
//
// The caller is not asked between two runs: what it does there finds the processor's caches swept by the
// weights, and costs many times what it would cost in a loop of its own.
#pragma once

#include <vector>

#include "exec/plan.h"

namespace weft {

struct ChainSpec {
  int64_t num_runs = 1;
  int output = 0;              // its rows, i32[rows, 1], ...
  int input = 0;               // ... are those of this input of the next run
  std::vector<bool> stacked;   // of each input: whether it holds the rows of all runs, one after another
  std::vector<int32_t> ends;   // a run that gives one of these is the last
};

class ChainedRuns {
 public:
  // inputs[i] belongs to plan.spec().inputs[i]. Those not stacked are the same for each run, but for the
  // fed one, which is that of the first.
  // Throws Error(kValue) when the rows do not divide or what is fed is not i32; the plan must outlive this.
  ChainedRuns(Plan& plan, std::vector<Matrix> inputs, ChainSpec chain);

  // Throws as Plan::run does.
  void run(Team& team, Gate* gate);

  // All rows of output `index`, those of the first run first. Holds as long as this.
  Matrix output(int index);
  const PlanSpec& spec() const { return plan_.spec(); }
  Turns& turns() { return plan_.turns(); }

 private:
  void feed();
  void keep_outputs();
  bool ended() const;

  Plan& plan_;
  std::vector<Matrix> inputs_;  // of the run under way
  ChainSpec chain_;
  std::vector<int32_t> fed_;
  std::vector<std::vector<char>> outputs_;
};

}  // namespace weft
