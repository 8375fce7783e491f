#include "ops/checks.h"

#include "memory/kv_cache.h"

namespace weft {

void refuse_node(const NodeSpec& spec, const std::string& expected, const std::string& got) {
  throw Error(ErrorKind::kPlan, "operation '" + spec.op + "' expects " + expected + ", got " + got + "; rebuild the plan");
}

int64_t columns_of(const NodeSpec& spec, const std::string& name) {
  const auto found = spec.columns.find(name);
  if (found == spec.columns.end()) refuse_node(spec, "the operand '" + name + "'", "none");
  return found->second;
}

void expect_columns(const NodeSpec& spec, const std::string& name, int64_t columns) {
  const int64_t got = columns_of(spec, name);
  if (got != columns)
    refuse_node(spec, std::to_string(columns) + " columns in '" + name + "'", std::to_string(got));
}

int64_t integer(const NodeSpec& spec, const std::string& name, int64_t least) {
  const double value = spec.number(name);
  const int64_t rounded = static_cast<int64_t>(value);
  if (!(value >= static_cast<double>(least)) || value > 1e15 || static_cast<double>(rounded) != value)
    refuse_node(spec, "an integer of at least " + std::to_string(least) + " as '" + name + "'", std::to_string(value));
  return rounded;
}

std::shared_ptr<KvCache> cache_of(const NodeSpec& spec) {
  const auto found = spec.caches.find("cache");
  if (found == spec.caches.end() || !found->second) refuse_node(spec, "a KV cache as 'cache'", "none");
  const KvCache& cache = *found->second;
  const int64_t layer = integer(spec, "layer", 0);
  if (layer >= cache.layers())
    refuse_node(spec, "a layer below " + std::to_string(cache.layers()), std::to_string(layer));
  const int64_t kv_heads = integer(spec, "kv_heads", 1), head_dim = integer(spec, "head_dim", 1);
  if (kv_heads != cache.kv_heads() || head_dim != cache.head_dim()) {
    refuse_node(spec, "a cache of " + std::to_string(kv_heads) + " heads of " + std::to_string(head_dim),
                std::to_string(cache.kv_heads()) + " heads of " + std::to_string(cache.head_dim()));
  }
  return found->second;
}

std::shared_ptr<Tensor> tensor_of(const NodeSpec& spec, const std::string& name, int64_t rows, int64_t columns) {
  std::shared_ptr<Tensor> tensor = spec.tensor_or_null(name, rows, columns);
  if (!tensor) refuse_node(spec, "the tensor '" + name + "'", "none");
  return tensor;
}

void expect_rows(int64_t got, int64_t expected, const std::string& what) {
  if (got == expected) return;
  throw Error(ErrorKind::kValue, "expected " + std::to_string(expected) + " rows of " + what + ", got " +
                                     std::to_string(got) + "; pass one for each row of the step");
}

void expect_indices(const Matrix& values, int64_t rows, int64_t limit, const std::string& what) {
  expect_rows(values.rows, rows, what);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < values.columns; ++column) {
      const int32_t value = values.i32_row(row)[column];
      if (value >= 0 && value < limit) continue;
      throw Error(ErrorKind::kValue, "expected " + what + " from 0 to " + std::to_string(limit - 1) + ", got " +
                                         std::to_string(value) + " in row " + std::to_string(row) +
                                         "; correct the inputs of the run");
    }
  }
}

}  // namespace weft
