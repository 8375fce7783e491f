// Low-rank adapters beside one linear layer, as operations of training see them.
#pragma once

#include <stdint.h>

#include <memory>
#include <string>
#include <vector>

#include "kernels/gemm.h"
#include "memory/tensor.h"
#include "ops/op.h"

namespace weft {

// An adapter of columns [first, first + n) of the layer's output: x * a^T are its `rank` low columns, which lie from
// column `low` on among those of all parts.
struct AdapterPart {
  int64_t first, n, rank, low;
  std::shared_ptr<Tensor> a, b;  // [rank, k] and [n, rank], or their gradients
};

// The operands PREFIXa0, PREFIXb0 and the attribute first0 of a node, and those of other parts that it has, for a layer
// of n outputs and k inputs. Throws Error(kPlan).
std::vector<AdapterPart> adapter_parts(const NodeSpec& spec, const std::string& prefix, int64_t n, int64_t k);

// The low columns of all parts.
int64_t total_rank(const std::vector<AdapterPart>& parts);

}  // namespace weft
