#include "exec/plan.h"

#include <algorithm>
#include <atomic>

#include "exec/plan_run.h"

namespace weft {

namespace {

constexpr size_t kAlignment = 64;

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorKind::kPlan, message + "; rebuild the plan");
}

uint64_t next_run() {
  static std::atomic<uint64_t> counter{0};
  return counter.fetch_add(1, std::memory_order_relaxed) + 1;
}

// A plan with a cache serves requests, often a few rows of many; others run over all of their rows.
Pages pages_for(const PlanSpec& spec) {
  const auto has_cache = [](const PlanNode& node) { return !node.spec.caches.empty(); };
  return std::any_of(spec.nodes.begin(), spec.nodes.end(), has_cache) ? Pages::kNormal : Pages::kHuge;
}

struct Extent {
  size_t begin, end;
};

Extent extent(const PlanSpec& spec, const Ref& ref) {
  const BufferSpec& buffer = spec.buffers[ref.index];
  const size_t bytes = spec.dims[buffer.dim].max * buffer.columns * dtype_bytes(buffer.dtype);
  return {buffer.offset_bytes, buffer.offset_bytes + bytes};
}

bool same_geometry(const PlanSpec& spec, const Ref& a, const Ref& b) {
  const BufferSpec& first = spec.buffers[a.index];
  const BufferSpec& second = spec.buffers[b.index];
  return first.offset_bytes == second.offset_bytes && first.columns == second.columns && first.dtype == second.dtype;
}

// Whether row r of `a` may lie where another row of `b` does.
bool rows_collide(const PlanSpec& spec, const Ref& a, const Ref& b) {
  if (a.kind != Ref::kBuffer || b.kind != Ref::kBuffer || same_geometry(spec, a, b)) return false;
  const Extent first = extent(spec, a), second = extent(spec, b);
  return first.begin < second.end && second.begin < first.end;
}

}  // namespace

Plan::Plan(PlanSpec spec, const Kernels& kernels)
    : spec_(std::move(spec)), kernels_(kernels), arena_(spec_.arena_bytes, "a plan's activations", pages_for(spec_)) {
  check_sizes();
  check_buffers();
  for (const PlanNode& node : spec_.nodes) {
    for (const Ref& ref : node.in) check_ref(ref);
    for (const Ref& ref : node.out) check_output(ref);
  }
  for (const auto& [name, ref] : spec_.outputs) check_ref(ref);
  make_ops(kernels);
  make_phases();
}

// Rows and columns are 32-bit numbers in the inputs of runs and in operations.
void Plan::check_sizes() const {
  const auto is_size = [](int64_t size, int64_t least) { return size >= least && size <= INT32_MAX; };
  for (const Dim& dim : spec_.dims)
    if (!is_size(dim.max, 0)) refuse("dimension '" + dim.name + "' cannot have " + std::to_string(dim.max) + " rows");
  for (const BufferSpec& buffer : spec_.buffers)
    if (!is_size(buffer.columns, 1)) refuse("a buffer cannot have " + std::to_string(buffer.columns) + " columns");
  for (const InputSpec& input : spec_.inputs)
    if (!is_size(input.columns, 1))
      refuse("input '" + input.name + "' cannot have " + std::to_string(input.columns) + " columns");
}

void Plan::check_buffers() const {
  for (size_t i = 0; i < spec_.buffers.size(); ++i) {
    const BufferSpec& buffer = spec_.buffers[i];
    const std::string name = "buffer " + std::to_string(i);
    if (buffer.dim < 0 || buffer.dim >= static_cast<int>(spec_.dims.size())) refuse(name + " has an unknown dimension");
    if (buffer.offset_bytes % kAlignment) refuse(name + " is not aligned to 64 bytes");
    size_t bytes = dtype_bytes(buffer.dtype);
    const bool is_huge = __builtin_mul_overflow(bytes, spec_.dims[buffer.dim].max * buffer.columns, &bytes);
    if (is_huge || buffer.offset_bytes > spec_.arena_bytes || bytes > spec_.arena_bytes - buffer.offset_bytes) {
      refuse(name + " of " + std::to_string(spec_.dims[buffer.dim].max) + " x " + std::to_string(buffer.columns) +
             " elements at byte " + std::to_string(buffer.offset_bytes) + " ends beyond an arena of " +
             std::to_string(spec_.arena_bytes));
    }
  }
}

void Plan::check_ref(const Ref& ref) const {
  const bool is_buffer = ref.kind == Ref::kBuffer;
  const size_t count = is_buffer ? spec_.buffers.size() : spec_.inputs.size();
  if (ref.index < 0 || static_cast<size_t>(ref.index) >= count) refuse("an operand refers to a buffer or input that does not exist");
  const int64_t columns = is_buffer ? spec_.buffers[ref.index].columns : spec_.inputs[ref.index].columns;
  if (ref.first_column < 0 || ref.columns <= 0 || ref.columns > columns || ref.first_column > columns - ref.columns) {
    refuse("an operand takes " + std::to_string(ref.columns) + " columns from " + std::to_string(ref.first_column) +
           " on, of " + std::to_string(columns));
  }
}

// Inputs of a run are the caller's.
void Plan::check_output(const Ref& ref) const {
  check_ref(ref);
  if (ref.kind != Ref::kBuffer) refuse("an operation writes to input '" + spec_.inputs[ref.index].name + "'");
}

void Plan::make_ops(const Kernels& kernels) {
  size_t shared_bytes = 0;
  int64_t max_rows = 0;
  for (const Dim& dim : spec_.dims) max_rows = std::max(max_rows, dim.max);
  for (PlanNode& node : spec_.nodes) {
    const OpFactory factory = find_op(node.spec.op);
    if (!factory) refuse("'" + node.spec.op + "' is not an operation of this build");
    node.spec.max_rows = max_rows;
    node.spec.kernels = &kernels;
    ops_.push_back(factory(node.spec));
    shared_bytes = std::max(shared_bytes, ops_.back()->shared_bytes());
    scratch_bytes_ = std::max(scratch_bytes_, ops_.back()->scratch_bytes());
  }
  shared_ = Region(shared_bytes, "a plan's shared scratch", pages_for(spec_));
  rows_.resize(spec_.dims.size());
  inputs_.resize(spec_.inputs.size());
  for (const PlanNode& node : spec_.nodes) {
    in_.emplace_back(node.in.size());
    out_.emplace_back(node.out.size());
    OpArgs args;
    args.kernels = &kernels;
    args.shared = shared_.data();
    args_.push_back(args);
  }
}

void Plan::make_phases() {
  for (int node = 0; node < static_cast<int>(ops_.size()); ++node) {
    if (ops_[node]->row_wise()) {
      if (!phases_.empty() && phases_.back().chain && chains_with(phases_.back(), node)) {
        phases_.back().num_nodes += 1;
      } else {
        phases_.push_back({node, 1, 0, true});
      }
      continue;
    }
    for (int phase = 0; phase < ops_[node]->num_phases(); ++phase) phases_.push_back({node, 1, phase, false});
  }
}

// A chain runs without a barrier, so a row that one operation writes must not lie on another row that
// an earlier operation of the chain may still read or write on another thread.
bool Plan::chains_with(const Phase& phase, int node) const {
  const auto dim_of = [this](const PlanNode& n) {
    const Ref& ref = n.out.empty() ? n.in.front() : n.out.front();
    return ref.kind == Ref::kBuffer ? spec_.buffers[ref.index].dim : spec_.inputs[ref.index].dim;
  };
  const PlanNode& next = spec_.nodes[node];
  for (int earlier = phase.first_node; earlier < phase.first_node + phase.num_nodes; ++earlier) {
    const PlanNode& before = spec_.nodes[earlier];
    if (dim_of(before) != dim_of(next)) return false;
    for (const Ref& written : next.out) {
      for (const Ref& ref : before.in) if (rows_collide(spec_, written, ref)) return false;
      for (const Ref& ref : before.out) if (rows_collide(spec_, written, ref)) return false;
    }
    for (const Ref& written : before.out)
      for (const Ref& ref : next.in) if (rows_collide(spec_, written, ref)) return false;
  }
  return true;
}

void Plan::bind_inputs(const std::vector<Matrix>& inputs) {
  std::fill(rows_.begin(), rows_.end(), -1);
  for (size_t i = 0; i < spec_.inputs.size(); ++i) {
    const InputSpec& expected = spec_.inputs[i];
    const Matrix& input = inputs[i];
    if (input.columns != expected.columns || input.dtype != expected.dtype) {
      throw Error(ErrorKind::kValue, "input '" + expected.name + "' expects " + std::to_string(expected.columns) +
                                         " columns of its type, got " + std::to_string(input.columns));
    }
    inputs_[i] = input;
    if (expected.dim < 0) continue;
    int64_t& rows = rows_[expected.dim];
    const Dim& dim = spec_.dims[expected.dim];
    if (rows >= 0 && rows != input.rows) {
      throw Error(ErrorKind::kValue, "inputs disagree on '" + dim.name + "': " + std::to_string(rows) + " and " +
                                         std::to_string(input.rows) + " ('" + expected.name + "')");
    }
    if (input.rows > dim.max) {
      throw Error(ErrorKind::kValue, "input '" + expected.name + "' has " + std::to_string(input.rows) +
                                         " rows; the plan was built for at most " + std::to_string(dim.max));
    }
    rows = input.rows;
  }
  for (int64_t& rows : rows_) rows = std::max<int64_t>(rows, 0);
}

void Plan::prepare_scratch(int num_threads) {
  while (static_cast<int>(scratch_memory_.size()) < num_threads) {
    scratch_memory_.emplace_back(scratch_bytes_, "a thread's scratch");
    ThreadScratch scratch;
    scratch.data = scratch_memory_.back().data();
    scratch.bytes = scratch_bytes_;
    scratch_.push_back(scratch);
  }
}

Matrix Plan::resolve(const Ref& ref) const {
  if (ref.kind == Ref::kInput) {
    Matrix view = inputs_[ref.index];
    view.data = static_cast<char*>(view.data) + ref.first_column * dtype_bytes(view.dtype);
    view.columns = ref.columns;
    return view;
  }
  const BufferSpec& buffer = spec_.buffers[ref.index];
  char* base = static_cast<char*>(arena_.data()) + buffer.offset_bytes;
  return {base + ref.first_column * dtype_bytes(buffer.dtype), rows_[buffer.dim], ref.columns, buffer.columns,
          buffer.dtype};
}

void Plan::set_threads(int num_threads) {
  num_threads_ = num_threads;
  prepare_scratch(num_threads);
  for (OpArgs& args : args_) {
    args.scratch = scratch_.data();
    args.num_threads = num_threads;
  }
}

void Plan::bind(const std::vector<Matrix>& inputs, Gate* gate) {
  if (inputs.size() != spec_.inputs.size()) refuse("a run got the wrong number of inputs");
  bind_inputs(inputs);
  const uint64_t run = next_run();
  for (size_t node = 0; node < ops_.size(); ++node) {
    const PlanNode& spec = spec_.nodes[node];
    for (size_t i = 0; i < spec.in.size(); ++i) in_[node][i] = resolve(spec.in[i]);
    for (size_t i = 0; i < spec.out.size(); ++i) out_[node][i] = resolve(spec.out[i]);
    OpArgs& args = args_[node];
    args.in = in_[node].data();
    args.out = out_[node].data();
    args.run = run;
    args.gate = gate;
    ops_[node]->check(args);
  }
}

void Plan::run(Team& team, const std::vector<Matrix>& inputs, Trace* trace, Gate* gate) {
  bind(inputs, gate);
  PlanRun job(*this, trace);
  team.run(job);
}

void Plan::run_alone(const std::vector<Matrix>& inputs, Trace* trace, int lane) {
  bind(inputs, nullptr);
  set_threads(1);
  PlanRun job(*this, trace, lane);
  for (int64_t phase = 0; phase < job.num_phases(); ++phase)
    for (int64_t tile = 0, tiles = job.num_tiles(phase); tile < tiles; ++tile) job.run_tile(phase, tile, 0);
}

Matrix Plan::output(int index) const { return resolve(spec_.outputs[index].second); }

size_t Plan::memory_bytes() const {
  return arena_.bytes() + shared_.bytes() + scratch_memory_.size() * scratch_bytes_;
}

}  // namespace weft
