// A frozen list of operations over matrices whose places in memory are already decided.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "exec/trace.h"
#include "exec/turns.h"
#include "memory/region.h"
#include "ops/op.h"
#include "threads/team.h"

namespace weft {

// A number of rows that is known only when the plan runs, and the most it may be.
struct Dim {
  std::string name;
  int64_t max = 0;
};

struct BufferSpec {
  int dim = 0;  // index in PlanSpec::dims
  int64_t columns = 0;
  DType dtype = DType::kF32;
  size_t offset_bytes = 0;  // in the arena
};

struct InputSpec {
  std::string name;
  int dim = -1;  // -1: any number of rows
  int64_t columns = 0;
  DType dtype = DType::kF32;
};

// An operand: some columns of a buffer, or an input of the run.
struct Ref {
  enum Kind { kBuffer, kInput } kind = kBuffer;
  int index = 0;
  int64_t first_column = 0;
  int64_t columns = 0;
};

struct PlanNode {
  NodeSpec spec;  // its inputs and outputs index into `in` and `out`
  std::vector<Ref> in;
  std::vector<Ref> out;
};

struct PlanSpec {
  std::vector<Dim> dims;
  std::vector<BufferSpec> buffers;
  std::vector<InputSpec> inputs;
  std::vector<std::pair<std::string, Ref>> outputs;
  std::vector<PlanNode> nodes;
  size_t arena_bytes = 0;
};

// Validated when it is made. Whoever runs it holds its turns(); runs of different plans are independent.
class Plan {
 public:
  // Throws Error(kPlan) when the description is inconsistent, Error(kMemory) when the arena is refused.
  explicit Plan(PlanSpec spec, const Kernels& kernels);

  // Runs every operation on `team`. inputs[i] belongs to spec().inputs[i]. On return the outputs hold
  // until the next run. Throws Error(kValue) when an input does not fit; then nothing has run.
  // gate: masks of the `sample` operation may still be written until it opens.
  void run(Team& team, const std::vector<Matrix>& inputs, Trace* trace, Gate* gate = nullptr);

  // The same on the calling thread alone, which may be in a tile of a team; its spans go to lane `lane` of the trace.
  void run_alone(const std::vector<Matrix>& inputs, Trace* trace, int lane);

  // A view of output `index` of the last run.
  Matrix output(int index) const;
  Turns& turns() { return turns_; }

  const PlanSpec& spec() const { return spec_; }
  size_t num_phases() const { return phases_.size(); }
  size_t memory_bytes() const;  // arena, shared and (of the last team) thread scratch

 private:
  friend class PlanRun;
  // One phase of one operation, or a chain of consecutive row-wise operations.
  struct Phase {
    int first_node;
    int num_nodes;
    int op_phase;
    bool chain;
  };

  void check_sizes() const;
  void check_buffers() const;
  void check_ref(const Ref& ref) const;
  void check_output(const Ref& ref) const;
  void make_ops(const Kernels& kernels);
  void make_phases();
  bool chains_with(const Phase& phase, int node) const;
  void bind(const std::vector<Matrix>& inputs, Gate* gate);
  void bind_inputs(const std::vector<Matrix>& inputs);
  void set_threads(int num_threads);  // of the current run, bound before
  void prepare_scratch(int num_threads);
  Matrix resolve(const Ref& ref) const;

  PlanSpec spec_;
  const Kernels& kernels_;
  std::vector<std::unique_ptr<Op>> ops_;
  std::vector<Phase> phases_;
  Region arena_;
  Region shared_;
  size_t scratch_bytes_ = 0;
  std::vector<Region> scratch_memory_;
  std::vector<ThreadScratch> scratch_;
  int num_threads_ = 1;                 // of the current run
  std::vector<int64_t> rows_;           // of each dim, in the current run
  std::vector<Matrix> inputs_;
  std::vector<std::vector<Matrix>> in_;   // resolved operands of each node
  std::vector<std::vector<Matrix>> out_;
  std::vector<OpArgs> args_;
  Turns turns_;
};

}  // namespace weft
