// linear over a weight that training changes.
#pragma once

#include <memory>

#include "ops/op.h"

namespace weft {

// The operation linear where its weight is a tensor. Throws Error(kPlan).
std::unique_ptr<Op> make_linear_tensor(const NodeSpec& spec);

}  // namespace weft
