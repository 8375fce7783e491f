// Plans for Python: built from plain lists and dictionaries, run on a team without the GIL.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind/bind.h"
#include "bind/gil.h"
#include "exec/chained_runs.h"
#include "exec/plan.h"
#include "exec/row_blocks.h"
#include "isa/isa.h"
#include "memory/kv_cache.h"
#include "memory/tensor.h"
#include "ops/weight.h"
#include "threads/gate.h"
#include "threads/pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {

namespace {

using Array = nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>;
using FloatArray = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

struct NamedDType {
  const char* name;
  DType dtype;
};
constexpr NamedDType kDTypes[] = {{"f32", DType::kF32}, {"f16", DType::kF16}, {"bf16", DType::kBF16}, {"i8", DType::kI8},
                                  {"i32", DType::kI32}, {"u32", DType::kU32}, {"i64", DType::kI64}};

DType dtype_of(const std::string& name) {
  for (const NamedDType& known : kDTypes)
    if (name == known.name) return known.dtype;
  throw Error(ErrorKind::kPlan, "'" + name + "' is not an element type; use f32, f16, bf16, i8, i32, u32 or i64");
}

int dim_index(const PlanSpec& spec, const std::string& name) {
  for (size_t i = 0; i < spec.dims.size(); ++i)
    if (spec.dims[i].name == name) return static_cast<int>(i);
  throw Error(ErrorKind::kPlan, "'" + name + "' is not a dimension of this plan; rebuild the plan");
}

Ref ref_of(const PlanSpec& spec, nb::handle tuple) {
  const std::string kind = nb::cast<std::string>(tuple[0]);
  const int index = nb::cast<int>(tuple[1]);
  if (kind == "buffer") return {Ref::kBuffer, index, nb::cast<int64_t>(tuple[2]), nb::cast<int64_t>(tuple[3])};
  if (index < 0 || index >= static_cast<int>(spec.inputs.size())) {
    throw Error(ErrorKind::kPlan, "a node refers to input " + std::to_string(index) + ", which does not exist; rebuild the plan");
  }
  return {Ref::kInput, index, 0, spec.inputs[index].columns};
}

[[noreturn]] void refuse_operand(const std::string& name, const char* expected) {
  throw Error(ErrorKind::kPlan, "operand '" + name + "' expects a " + expected + ", got another object; bind it to one");
}

// What an operand is bound to: nanobind takes None for any pointer.
template <class Value>
std::shared_ptr<Value> bound(const std::string& name, nb::handle value, const char* what) {
  std::shared_ptr<Value> found;
  if (!nb::try_cast(value, found, false) || !found) refuse_operand(name, what);
  return found;
}

std::shared_ptr<const std::vector<float>> vector_of(const std::string& name, nb::handle value) {
  FloatArray array;
  if (!nb::try_cast(value, array)) refuse_operand(name, "vector of float32");
  return std::make_shared<const std::vector<float>>(array.data(), array.data() + array.shape(0));
}

// Weights, tensors, vectors and caches are held by the node; buffers and inputs become references.
void add_operand(const PlanSpec& spec, PlanNode& node, const std::string& name, nb::handle tuple) {
  const std::string kind = nb::cast<std::string>(tuple[0]);
  if (kind == "weight") {
    node.spec.weights[name] = bound<Weight>(name, tuple[1], "weight");
  } else if (kind == "tensor") {
    node.spec.tensors[name] = bound<Tensor>(name, tuple[1], "tensor");
  } else if (kind == "vector") {
    node.spec.vectors[name] = vector_of(name, tuple[1]);
  } else if (kind == "cache") {
    node.spec.caches[name] = bound<KvCache>(name, tuple[1], "KV cache");
  } else if (kind == "buffer" || kind == "input") {
    const Ref ref = ref_of(spec, tuple);
    node.spec.inputs[name] = static_cast<int>(node.in.size());
    node.spec.columns[name] = static_cast<int>(ref.columns);
    node.in.push_back(ref);
  } else {
    throw Error(ErrorKind::kPlan, "'" + kind + "' is not a kind of operand; rebuild the plan");
  }
}

PlanNode node_of(const PlanSpec& spec, nb::dict description) {
  PlanNode node;
  node.spec.op = nb::cast<std::string>(description["op"]);
  for (auto [key, value] : nb::cast<nb::dict>(description["attrs"])) {
    const std::string name = nb::cast<std::string>(key);
    if (nb::isinstance<nb::str>(value)) {
      node.spec.strings[name] = nb::cast<std::string>(value);
    } else {
      node.spec.numbers[name] = nb::cast<double>(nb::float_(value));
    }
  }
  for (auto [key, value] : nb::cast<nb::dict>(description["operands"]))
    add_operand(spec, node, nb::cast<std::string>(key), value);
  for (auto [key, value] : nb::cast<nb::dict>(description["outputs"])) {
    const std::string name = nb::cast<std::string>(key);
    const Ref ref = ref_of(spec, value);
    node.spec.outputs[name] = static_cast<int>(node.out.size());
    node.spec.columns[name] = static_cast<int>(ref.columns);
    node.out.push_back(ref);
  }
  return node;
}

std::shared_ptr<Plan> make_plan(nb::list nodes, nb::list buffers, nb::list inputs, nb::list outputs, nb::dict dims,
                                size_t arena_bytes) {
  PlanSpec spec;
  spec.arena_bytes = arena_bytes;
  for (auto [name, max] : dims) spec.dims.push_back({nb::cast<std::string>(name), nb::cast<int64_t>(max)});
  for (nb::handle buffer : buffers) {
    spec.buffers.push_back({dim_index(spec, nb::cast<std::string>(buffer[0])), nb::cast<int64_t>(buffer[1]),
                            dtype_of(nb::cast<std::string>(buffer[2])), nb::cast<size_t>(buffer[3])});
  }
  for (nb::handle input : inputs) {
    const std::string dim = nb::cast<std::string>(input[1]);
    spec.inputs.push_back({nb::cast<std::string>(input[0]), dim.empty() ? -1 : dim_index(spec, dim),
                           nb::cast<int64_t>(input[2]), dtype_of(nb::cast<std::string>(input[3]))});
  }
  for (nb::handle node : nodes) spec.nodes.push_back(node_of(spec, nb::cast<nb::dict>(node)));
  for (nb::handle output : outputs)
    spec.outputs.emplace_back(nb::cast<std::string>(output[0]), ref_of(spec, output[1]));
  return std::make_shared<Plan>(std::move(spec), default_kernels());
}

bool matches(nb::dlpack::dtype actual, DType expected) {
  using Code = nb::dlpack::dtype_code;
  switch (expected) {
    case DType::kF32: return actual.code == static_cast<uint8_t>(Code::Float) && actual.bits == 32;
    case DType::kI32: return actual.code == static_cast<uint8_t>(Code::Int) && actual.bits == 32;
    case DType::kU32: return actual.code == static_cast<uint8_t>(Code::UInt) && actual.bits == 32;
    case DType::kI64: return actual.code == static_cast<uint8_t>(Code::Int) && actual.bits == 64;
    case DType::kI8: return actual.code == static_cast<uint8_t>(Code::Int) && actual.bits == 8;
    case DType::kF16:
    case DType::kBF16: return actual.bits == 16;
  }
  return false;
}

Array array_of(const InputSpec& expected, nb::handle value) {
  Array array;
  if (!nb::try_cast<Array>(value, array, false) || array.ndim() != 2 || !matches(array.dtype(), expected.dtype)) {
    throw Error(ErrorKind::kValue, "input '" + expected.name + "' expects a C-contiguous array [rows, " +
                                       std::to_string(expected.columns) + "] of the plan's type");
  }
  return array;
}

// Numbers of 16 bits that NumPy does not know are given as their bits.
nb::dlpack::dtype numpy_dtype(DType dtype) {
  switch (dtype) {
    case DType::kF32: return nb::dtype<float>();
    case DType::kF16: return {static_cast<uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
    case DType::kBF16: return nb::dtype<uint16_t>();
    case DType::kI8: return nb::dtype<int8_t>();
    case DType::kI32: return nb::dtype<int32_t>();
    case DType::kU32: return nb::dtype<uint32_t>();
    case DType::kI64: return nb::dtype<int64_t>();
  }
  return nb::dtype<float>();
}

nb::object copy_output(const Matrix& view) {
  const size_t row_bytes = view.columns * dtype_bytes(view.dtype);
  const size_t stride_bytes = view.row_stride * dtype_bytes(view.dtype);
  char* data = new char[view.rows * row_bytes + 1];
  for (int64_t row = 0; row < view.rows; ++row)
    memcpy(data + row * row_bytes, static_cast<const char*>(view.data) + row * stride_bytes, row_bytes);
  nb::capsule owner(data, [](void* pointer) noexcept { delete[] static_cast<char*>(pointer); });
  const size_t shape[2] = {static_cast<size_t>(view.rows), static_cast<size_t>(view.columns)};
  return nb::cast(nb::ndarray<nb::numpy>(data, 2, shape, owner, nullptr, numpy_dtype(view.dtype)),
                  nb::rv_policy::reference);
}

// What a run of any kind takes, in the order of the plan's inputs. The arrays stay for as long: one may be what an
// object made for this call alone, and the caller's dictionary is the caller's.
struct RunInputs {
  RunInputs(const PlanSpec& spec, const nb::dict& given) {
    for (const InputSpec& expected : spec.inputs) {
      nb::str name(expected.name.c_str());
      if (!given.contains(name))
        throw Error(ErrorKind::kValue, "the run needs the input '" + expected.name + "', which was not given");
      arrays.push_back(array_of(expected, given[name]));
      const Array& array = arrays.back();
      const int64_t rows = static_cast<int64_t>(array.shape(0)), columns = static_cast<int64_t>(array.shape(1));
      views.push_back({const_cast<void*>(array.data()), rows, columns, columns, expected.dtype});
    }
  }

  std::vector<Array> arrays;
  std::vector<Matrix> views;
};

// Runs a Plan, ChainedRuns or RowBlocks by `run` when it is its turn, without the GIL, and copies its outputs.
template <class Runner, class Run>
nb::dict run_and_copy(Runner& runner, Trace* trace, const Run& run) {
  std::unique_lock<Turns> turn(runner.turns(), std::defer_lock);
  {
    const GilReleased released;
    turn.lock();
    const std::unique_lock<std::mutex> recording = trace ? std::unique_lock(trace->turn()) : std::unique_lock<std::mutex>();
    run();
  }
  nb::dict results;
  for (size_t i = 0; i < runner.spec().outputs.size(); ++i)
    results[runner.spec().outputs[i].first.c_str()] = copy_output(runner.output(static_cast<int>(i)));
  return results;
}

nb::dict run_plan(Plan& plan, Pool& pool, nb::dict inputs, int team, Trace* trace, Gate* gate) {
  const RunInputs given(plan.spec(), inputs);
  return run_and_copy(plan, trace, [&] { plan.run(pool.team(team), given.views, trace, gate); });
}

nb::dict run_blocks(RowBlocks& blocks, Pool& pool, nb::dict inputs, Trace* trace) {
  const RunInputs given(blocks.spec(), inputs);
  return run_and_copy(blocks, trace, [&] { blocks.run(pool, given.views, trace); });
}

int input_named(const PlanSpec& spec, const std::string& name) {
  for (size_t i = 0; i < spec.inputs.size(); ++i)
    if (spec.inputs[i].name == name) return static_cast<int>(i);
  throw Error(ErrorKind::kValue, "'" + name + "' is not an input of the plan");
}

int output_named(const PlanSpec& spec, const std::string& name) {
  for (size_t i = 0; i < spec.outputs.size(); ++i)
    if (spec.outputs[i].first == name) return static_cast<int>(i);
  throw Error(ErrorKind::kValue, "'" + name + "' is not an output of the plan");
}

ChainSpec chain_of(const PlanSpec& spec, int64_t num_runs, const std::vector<std::string>& stacked,
                   const std::string& fed) {
  if (num_runs < 1) throw Error(ErrorKind::kValue, "a chain has at least one run, got " + std::to_string(num_runs));
  ChainSpec chain;
  chain.num_runs = num_runs;
  chain.input = input_named(spec, fed);
  chain.output = output_named(spec, fed);
  chain.stacked.resize(spec.inputs.size());
  for (const std::string& name : stacked) chain.stacked[input_named(spec, name)] = true;
  return chain;
}

nb::dict run_chain(Plan& plan, Pool& pool, nb::dict inputs, int64_t num_runs, const std::vector<std::string>& stacked,
                   const std::string& fed, std::vector<int32_t> ends, int team, Gate* gate) {
  ChainSpec chain = chain_of(plan.spec(), num_runs, stacked, fed);
  chain.ends = std::move(ends);
  const RunInputs given(plan.spec(), inputs);
  ChainedRuns runs(plan, given.views, std::move(chain));
  return run_and_copy(runs, nullptr, [&] { runs.run(pool.team(team), gate); });
}

// What `read` gives while no run records.
template <class Read>
auto between_runs(Trace& trace, const Read& read) {
  const GilReleased released;
  const std::lock_guard<std::mutex> turn(trace.turn());
  return read();
}

nb::object spans_array(Trace& trace) {
  auto* spans = new std::vector<Span>(between_runs(trace, [&] { return trace.spans(); }));
  nb::capsule owner(spans, [](void* pointer) noexcept { delete static_cast<std::vector<Span>*>(pointer); });
  const size_t bytes[1] = {spans->size() * sizeof(Span)};
  auto raw = nb::ndarray<nb::numpy, uint8_t>(spans->data(), 1, bytes, owner);
  nb::list fields;
  for (const char* name : {"thread", "node", "phase", "tiles"}) fields.append(nb::make_tuple(name, "i4"));
  for (const char* name : {"begin_ns", "end_ns"}) fields.append(nb::make_tuple(name, "i8"));
  return nb::cast(raw, nb::rv_policy::reference).attr("view")(fields);
}

}  // namespace

void bind_plan(nb::module_& module) {
  nb::class_<Gate>(module, "Gate", "Closed while work is pending that a run waits for. Any thread may use it.")
      .def(nb::init<>())
      .def("begin", &Gate::begin, "One more piece of work is pending.")
      .def("end", &Gate::end, "One piece of work is done.");

  nb::class_<Trace>(module, "Trace", "Collects what each thread did in the runs that it is given to, which take turns.")
      .def(nb::init<int64_t>(), "capacity"_a = 1 << 20, "capacity: spans kept for each thread; later ones are counted and dropped.")
      .def("spans", &spans_array, "Structured array: thread, node, phase, tiles, begin_ns, end_ns (steady clock).")
      .def_prop_ro("num_dropped",
                   [](Trace& trace) { return between_runs(trace, [&] { return trace.num_dropped(); }); },
                   "Spans that did not fit.")
      .def("clear", [](Trace& trace) { between_runs(trace, [&] { trace.clear(); }); }, "Forgets all spans.");

  nb::class_<Plan>(module, "Plan", "A frozen list of operations; see weft.plan. Runs of one plan take turns.")
      .def(nb::new_(&make_plan), "nodes"_a, "buffers"_a, "inputs"_a, "outputs"_a, "dims"_a, "arena_bytes"_a,
           "nodes: dicts of op, attrs, operands, outputs. buffers: (dim, columns, dtype, offset_bytes). inputs: (name, "
           "dim or '', columns, dtype). outputs: (name, ref). dims: name -> most rows. Raises PlanError.")
      .def("run", &run_plan, "pool"_a, "inputs"_a, "team"_a = 0, "trace"_a.none() = nb::none(),
           "gate"_a.none() = nb::none(),
           "Runs the plan on one team of the pool, without the GIL; returns copies of the outputs by name. gate: masks "
           "are read after waiting at it.")
      .def("run_chain", &run_chain, "pool"_a, "inputs"_a, "num_runs"_a, "stacked"_a, "fed"_a, "ends"_a, "team"_a = 0,
           "gate"_a.none() = nb::none(),
           "Runs the plan up to num_runs times in one call: the output named `fed` of each is the input of that name of "
           "the next, and one of `ends` in it makes a run the last. The inputs named in `stacked`, and the outputs, hold "
           "the rows of all runs, one after another.")
      .def_prop_ro("memory_bytes", &Plan::memory_bytes, "Bytes of activations and scratch.")
      .def_prop_ro("num_phases", &Plan::num_phases, "Phases of a run; threads meet after each.");

  nb::class_<RowBlocks>(module, "RowBlocks", "A plan run in blocks of rows, each on one thread. Runs take turns.")
      .def(nb::init<std::vector<std::shared_ptr<Plan>>, std::vector<Tensors>, Tensors>(), "plans"_a, "own"_a, "sums"_a,
           "plans: one a thread, of the rows of a block at most. own: the tensors that each adds to, of the sizes of "
           "`sums`, which get what all of them add. Raises PlanError.")
      .def("run", &run_blocks, "pool"_a, "inputs"_a, "trace"_a.none() = nb::none(),
           "Runs the plan on all threads of the pool, without the GIL; returns copies of the outputs by name.")
      .def_prop_ro("memory_bytes", &RowBlocks::memory_bytes, "Bytes of activations, scratch and gradients of blocks.");
}

}  // namespace weft
