// How the panels of a weight and the blocks of rows are shared out as tiles.
#pragma once

#include <stdint.h>

#include <algorithm>

#include "ops/weight.h"

namespace weft {

// Panels [first_panel, last_panel) of a weight, counted over its parts, times the rows of a block.
struct ProductTile {
  int64_t first_panel;
  int64_t last_panel;
  int64_t block;
};

// How rows are cut into blocks of up to kBlockRows. Many rows are cut into a share for each thread: what one operation
// writes of a row the next one then finds in the same core's cache, though each thread reads all weights.
class ProductRows {
 public:
  ProductRows(int64_t rows, int num_threads);

  int64_t count() const { return num_shares_ * blocks_per_share_; }
  int64_t num_shares() const { return num_shares_; }
  int64_t first_row(int64_t block) const { return block * rows_ / count(); }
  int64_t end_row(int64_t block) const { return first_row(block + 1); }
  int64_t rows(int64_t block) const { return end_row(block) - first_row(block); }
  int64_t most_rows() const { return (rows_ + count() - 1) / count(); }  // of a block
  int64_t of(int64_t row) const { return ((row + 1) * count() - 1) / rows_; }

  // Bounds of count() * most_rows() for up to `rows` rows and any number of threads.
  static int64_t most_padded_rows(int64_t rows) { return rows + rows / (kShareRows / 2) + 1; }

 private:
  static constexpr int64_t kShareRows = 32;  // fewer are not worth reading weights for

  int64_t rows_, num_shares_, blocks_per_share_;
};

// A few tiles a thread, as many for each, none much shorter than it takes to hand one out. The blocks of a share are
// neighbours for a range of panels, so that a thread meets the panels again while they are in its cache.
class ProductTiles {
 public:
  // Tiles have a multiple of `panels` panels, which divides those of the weight.
  ProductTiles(const Weight& weight, int64_t rows, int64_t num_blocks, int num_threads, int64_t num_shares = 1,
               int64_t panels = 1);

  int64_t count() const { return num_ranges_ * num_blocks_; }
  ProductTile at(int64_t tile) const;
  // The first packed byte of tile `tile`, null when there is no such tile.
  const uint8_t* data(int64_t tile) const;

  // visit(index of a part, its first panel, its last) for the panels of `tile` in each part.
  template <class Visit>
  void each_part(const ProductTile& tile, const Visit& visit) const {
    int64_t first = 0;  // panel of the part
    for (size_t i = 0; i < weight_.parts().size() && first < tile.last_panel; ++i) {
      const int64_t panels = weight_.parts()[i].num_panels;
      const int64_t begin = std::max(first, tile.first_panel), end = std::min(first + panels, tile.last_panel);
      if (begin < end) visit(i, begin - first, end - first);
      first += panels;
    }
  }

 private:
  const Weight& weight_;
  const int64_t num_blocks_, num_shares_, panels_;
  int64_t num_panels_ = 0;
  int64_t num_ranges_ = 1;
};

}  // namespace weft
