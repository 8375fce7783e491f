// Packing weights from the encodings of model files.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "ops/block_formats.h"
#include "ops/weight.h"
#include "threads/team.h"

namespace weft {

// A matrix [n, k] as a file holds it: row r is row `row_order[r]` of `data`, or row r where it is empty.
struct FileMatrix {
  BlockKind kind;
  int64_t n;
  int64_t k;
  const uint8_t* data;
  size_t bytes;
  std::vector<int32_t> row_order;
};

// Packs `parts`, joined along their outputs, on `team`; neighbours of one format become one part.
// is_interleaved: two equal parts, gate and up. target: the kind to requantize to; by default a kind keeps its
// numbers, those of 4-bit groups as whole numbers of a unit. Throws Error(kValue) when sizes do not fit, or naming the first weight that is not
// finite or too large for the target; Error(kMemory).
std::shared_ptr<Weight> pack_weight(Team& team, const std::vector<FileMatrix>& parts, bool is_interleaved,
                                    std::optional<PanelKind> target);

}  // namespace weft
