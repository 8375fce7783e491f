// The contract between a plan and the operations it runs.
#pragma once

#include <stdint.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/types.h"
#include "kernels/table.h"

namespace weft {

class Weight;
class KvCache;
class Tensor;
class Gate;

// A float32 vector that the node keeps alive: the plan's own, or a tensor that training changes.
using Vector = std::shared_ptr<const float>;

// Memory of one thread that an operation may use between the begin and the end of a tile, or across the
// tiles of one operation in one run: `owner` and `run` say whose content it holds.
struct ThreadScratch {
  void* data = nullptr;
  size_t bytes = 0;
  const void* owner = nullptr;
  uint64_t run = 0;
};

// One node of a plan as Python described it, with operands already looked up.
struct NodeSpec {
  std::string op;
  std::map<std::string, double> numbers;
  std::map<std::string, std::string> strings;
  std::map<std::string, int> inputs;    // operand name -> index in OpArgs::in
  std::map<std::string, int> outputs;   // operand name -> index in OpArgs::out
  std::map<std::string, int> columns;   // operand or output name -> its number of columns
  std::map<std::string, std::shared_ptr<const Weight>> weights;
  std::map<std::string, std::shared_ptr<const std::vector<float>>> vectors;
  std::map<std::string, std::shared_ptr<Tensor>> tensors;
  std::map<std::string, std::shared_ptr<KvCache>> caches;
  int64_t max_rows = 0;  // the largest number of rows any operand can have
  const Kernels* kernels = nullptr;  // those that will run the node

  double number(const std::string& name) const;                   // throws kPlan when absent
  double number_or(const std::string& name, double fallback) const;
  std::string string_or(const std::string& name, const std::string& fallback) const;
  int input(const std::string& name) const;                       // throws kPlan when absent
  int input_or_none(const std::string& name) const;               // -1 when absent
  int output(const std::string& name) const;
  const Weight* weight(const std::string& name) const;            // throws kPlan when absent
  // Of fixed vectors and of tensors; throws kPlan when it has another size.
  Vector vector_or_null(const std::string& name, int64_t expected_size) const;
  Vector vector(const std::string& name, int64_t expected_size) const;  // throws kPlan when absent, too
  std::shared_ptr<Tensor> tensor_or_null(const std::string& name) const;
  // Throws kPlan when it has another shape.
  std::shared_ptr<Tensor> tensor_or_null(const std::string& name, int64_t rows, int64_t columns) const;
  KvCache* cache(const std::string& name) const;
};

// What an operation sees while it runs. Operands are resolved once for each run.
struct OpArgs {
  const Matrix* in = nullptr;
  const Matrix* out = nullptr;
  const Kernels* kernels = nullptr;
  ThreadScratch* scratch = nullptr;  // one a thread
  void* shared = nullptr;            // Op::shared_bytes() bytes, for this operation alone in this run
  int num_threads = 1;
  uint64_t run = 0;                  // distinct for each run of the plan
  Gate* gate = nullptr;              // where given: what the run's caller still writes is read after waiting at it
};

// An operation of a plan. It validates its node when it is made, so that run_tile trusts its operands.
// Immutable after construction: many runs of one plan may share it.
class Op {
 public:
  virtual ~Op() = default;
  virtual int num_phases() const { return 1; }
  // A row-wise operation has one phase whose tiles are rows: run_rows(begin, end) reads only the same
  // rows of its inputs. Consecutive ones are run as one phase.
  virtual bool row_wise() const { return false; }
  virtual size_t scratch_bytes() const { return 0; }           // for each thread
  virtual size_t shared_bytes() const { return 0; }            // at max_rows
  // Checks values of the run's inputs (indices in bounds, ...); throws Error(kValue). Caller's thread.
  virtual void check(const OpArgs&) const {}
  virtual int64_t num_tiles(int phase, const OpArgs& args) const;      // default: rows, for row_wise
  virtual void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const;
  virtual int64_t num_rows(const OpArgs& args) const;                  // row_wise: default out[0].rows
  virtual void run_rows(int64_t begin, int64_t end, const OpArgs& args, int thread) const;
  // Asks for the memory of these rows that the caches will not have; before any operation of a chain has run.
  virtual void ask_for_rows(int64_t, int64_t, const OpArgs&) const {}
};

using OpFactory = std::unique_ptr<Op> (*)(const NodeSpec&);

// The factory of `op`, or null. The table is in ops/registry.cc.
OpFactory find_op(const std::string& op);

}  // namespace weft
