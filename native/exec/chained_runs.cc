#include "exec/chained_runs.h"

#include <string.h>

#include <algorithm>

namespace weft {

namespace {

size_t row_bytes(const Matrix& matrix) { return matrix.columns * dtype_bytes(matrix.dtype); }

[[noreturn]] void refuse(const InputSpec& input, int64_t rows, int64_t num_runs) {
  throw Error(ErrorKind::kValue, "input '" + input.name + "' expects the rows of " + std::to_string(num_runs) +
                                     " runs, got " + std::to_string(rows) + " rows");
}

// What is fed is one number a row.
void expect_numbers(const std::string& name, int64_t columns, DType dtype) {
  if (columns == 1 && dtype == DType::kI32) return;
  throw Error(ErrorKind::kValue, "a chain feeds i32 [rows, 1], got '" + name + "' of " + std::to_string(columns) +
                                     " columns or another type");
}

DType dtype_of(const PlanSpec& spec, const Ref& ref) {
  return ref.kind == Ref::kBuffer ? spec.buffers[ref.index].dtype : spec.inputs[ref.index].dtype;
}

}  // namespace

ChainedRuns::ChainedRuns(Plan& plan, std::vector<Matrix> inputs, ChainSpec chain)
    : plan_(plan), inputs_(std::move(inputs)), chain_(std::move(chain)), outputs_(plan.spec().outputs.size()) {
  const PlanSpec& spec = plan_.spec();
  const auto& [name, ref] = spec.outputs[chain_.output];
  expect_numbers(name, ref.columns, dtype_of(spec, ref));
  expect_numbers(name, spec.inputs[chain_.input].columns, spec.inputs[chain_.input].dtype);
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (!chain_.stacked[i]) continue;
    if (inputs_[i].rows % chain_.num_runs) refuse(spec.inputs[i], inputs_[i].rows, chain_.num_runs);
    inputs_[i].rows /= chain_.num_runs;
  }
}

void ChainedRuns::run(Team& team, Gate* gate) {
  for (int64_t run = 0; run < chain_.num_runs; ++run) {
    if (run) feed();
    plan_.run(team, inputs_, nullptr, gate);
    keep_outputs();
    if (ended()) return;
  }
}

void ChainedRuns::feed() {
  const PlanSpec& spec = plan_.spec();
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (chain_.stacked[i]) {
      inputs_[i].data = static_cast<char*>(inputs_[i].data) + inputs_[i].rows * row_bytes(inputs_[i]);
    }
  }
  Matrix& input = inputs_[chain_.input];
  const Matrix given = plan_.output(chain_.output);
  if (given.rows != input.rows) refuse(spec.inputs[chain_.input], given.rows, 1);
  fed_.resize(given.rows);
  for (int64_t row = 0; row < given.rows; ++row) fed_[row] = *given.i32_row(row);
  input.data = fed_.data();
}

void ChainedRuns::keep_outputs() {
  for (size_t i = 0; i < outputs_.size(); ++i) {
    const Matrix view = plan_.output(static_cast<int>(i));
    const size_t bytes = row_bytes(view), stride = view.row_stride * dtype_bytes(view.dtype);
    for (int64_t row = 0; row < view.rows; ++row) {
      const char* begin = static_cast<const char*>(view.data) + row * stride;
      outputs_[i].insert(outputs_[i].end(), begin, begin + bytes);
    }
  }
}

bool ChainedRuns::ended() const {
  const Matrix given = plan_.output(chain_.output);
  for (int64_t row = 0; row < given.rows; ++row) {
    if (std::find(chain_.ends.begin(), chain_.ends.end(), *given.i32_row(row)) != chain_.ends.end()) return true;
  }
  return false;
}

Matrix ChainedRuns::output(int index) {
  Matrix view = plan_.output(index);
  view.data = outputs_[index].data();
  view.rows = static_cast<int64_t>(outputs_[index].size() / row_bytes(view));
  view.row_stride = view.columns;
  return view;
}

}  // namespace weft
