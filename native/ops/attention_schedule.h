// How the attention of one run is cut into tiles.
#pragma once

#include <stdint.h>

namespace weft {

// What a sequence has to do in this step.
struct SequenceRows {
  int64_t first_row;       // in the step's rows
  int64_t num_rows;
  int64_t first_position;  // of the first row
  int64_t first_block;     // index in the block table
};

// How its work is cut. All of it can differ between runs, thread counts and batches: no result depends on it.
struct SequenceTiles {
  int64_t rows_per_tile;
  int64_t row_tiles;
  int64_t heads_per_tile;   // key/value heads that one tile does one after another
  int64_t head_tiles;
  int64_t first_split;      // the first stretch of 512 tokens that any row sees
  int64_t num_splits;
  bool is_split;            // each split is a tile of its own and a second phase merges them
  int64_t num_tiles() const { return row_tiles * head_tiles * (is_split ? num_splits : 1); }
};

// The shapes of a node, and how much room its partial results have.
struct AttentionShape {
  int64_t kv_heads, group, head_dim, window;
  int64_t partial_floats;  // in the shared memory
};

constexpr int64_t kSplitTokens = 512;

// Most queries (rows * group) of a tile, at which the products run near the peak. A single row is always
// allowed.
constexpr int64_t kTileQueries = 96;

// Cuts one sequence. `work` of all sequences together (see attention_work) is `total_work`.
SequenceTiles cut_sequence(const SequenceRows& rows, const AttentionShape& shape, int64_t total_work, int num_threads,
                           int64_t partial_floats_left);

// Pairs of a query and a block of tokens, an estimate that need not be exact.
int64_t attention_work(const SequenceRows& rows, const AttentionShape& shape);

// Floats of partial results that a split sequence needs.
int64_t partial_floats(const SequenceRows& rows, const SequenceTiles& tiles, const AttentionShape& shape);

}  // namespace weft
