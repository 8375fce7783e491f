// How the panels of a weight and the blocks of rows are shared out as tiles.
#pragma once

#include <stdint.h>

#include "ops/weight.h"

namespace weft {

// Panels [first_panel, last_panel) of a part times the rows of a block.
struct ProductTile {
  int64_t part;
  int64_t first_panel;
  int64_t last_panel;
  int64_t block;
};

// A few tiles a thread, none much shorter than it takes to hand one out. All blocks of a range of panels are
// neighbours, so that a thread meets the panels again while they are in its cache.
class ProductTiles {
 public:
  ProductTiles(const Weight& weight, int64_t rows, int64_t num_blocks, int num_threads);

  int64_t count() const { return count_; }
  ProductTile at(int64_t tile) const;

 private:
  int64_t ranges(const WeightPart& part) const;

  const Weight& weight_;
  const int64_t num_blocks_;
  int64_t panels_per_tile_ = 1;
  int64_t count_ = 0;
};

}  // namespace weft
