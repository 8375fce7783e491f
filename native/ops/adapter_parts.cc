#include "ops/adapter_parts.h"

#include "ops/checks.h"

namespace weft {

std::vector<AdapterPart> adapter_parts(const NodeSpec& spec, const std::string& prefix, int64_t n, int64_t k) {
  std::vector<AdapterPart> parts;
  for (int index = 0;; ++index) {
    const std::string number = std::to_string(index);
    AdapterPart part = {};
    part.a = spec.tensor_or_null(prefix + "a" + number);
    part.b = spec.tensor_or_null(prefix + "b" + number);
    if (!part.a || !part.b) break;
    part.first = integer(spec, "first" + number, 0);
    part.n = part.b->rows();
    part.rank = part.a->rows();
    part.low = total_rank(parts);
    const bool fits = part.a->columns() == k && part.b->columns() == part.rank && part.first + part.n <= n;
    // Pairs of outputs are packed together.
    if (!fits || part.first % 2 != 0) refuse_node(spec, "adapters of the layer's columns", "adapter " + number + " of others");
    parts.push_back(part);
  }
  if (parts.empty()) refuse_node(spec, "an adapter", "none");
  return parts;
}

int64_t total_rank(const std::vector<AdapterPart>& parts) {
  return parts.empty() ? 0 : parts.back().low + parts.back().rank;
}

}  // namespace weft
