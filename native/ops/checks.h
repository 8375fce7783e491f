// What operations check when they are made (the node's shapes) and before they run (the run's values).
#pragma once

#include <string>

#include "ops/op.h"

namespace weft {

// Throws Error(kPlan): "<op> expects <expected>, got <got>; rebuild the plan".
[[noreturn]] void refuse_node(const NodeSpec& spec, const std::string& expected, const std::string& got);

// Throws Error(kPlan) unless operand or output `name` has `columns` columns.
void expect_columns(const NodeSpec& spec, const std::string& name, int64_t columns);

// The number of columns of operand or output `name`; throws Error(kPlan) when it is absent.
int64_t columns_of(const NodeSpec& spec, const std::string& name);

// A positive integer attribute; throws Error(kPlan) when it is absent or less than `least`.
int64_t integer(const NodeSpec& spec, const std::string& name, int64_t least);

// The operand 'cache'; throws Error(kPlan) unless it has the node's layer, kv_heads and head_dim.
std::shared_ptr<KvCache> cache_of(const NodeSpec& spec);

// The tensor `name`; throws Error(kPlan) when it is absent or of another shape.
std::shared_ptr<Tensor> tensor_of(const NodeSpec& spec, const std::string& name, int64_t rows, int64_t columns);

// Throws Error(kValue) unless `values` (i32) has `rows` rows, each element in [0, limit).
// `what` names the input in the message.
void expect_indices(const Matrix& values, int64_t rows, int64_t limit, const std::string& what);

// Throws Error(kValue) unless `got` equals `expected` rows.
void expect_rows(int64_t got, int64_t expected, const std::string& what);

}  // namespace weft
