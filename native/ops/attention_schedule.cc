#include "ops/attention_schedule.h"

#include <algorithm>

#include "kernels/attention.h"

namespace weft {

namespace {

// Below this a tile costs more to hand out than it gains (about two microseconds).
constexpr int64_t kLeastWork = 32;
// Tiles for each thread, so that one that is held up can be helped.
constexpr int64_t kTilesPerThread = 4;
// Fewer queries than this share a block's conversion badly.
constexpr int64_t kLeastTileQueries = 24;

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t last_position(const SequenceRows& rows) { return rows.first_position + rows.num_rows - 1; }

int64_t first_token(const SequenceRows& rows, const AttentionShape& shape) {
  return shape.window > 0 ? std::max<int64_t>(0, rows.first_position - shape.window + 1) : 0;
}

int64_t blocks_of(const SequenceRows& rows, const AttentionShape& shape) {
  return last_position(rows) / kAttentionBlock - first_token(rows, shape) / kAttentionBlock + 1;
}

}  // namespace

int64_t attention_work(const SequenceRows& rows, const AttentionShape& shape) {
  return rows.num_rows * shape.group * shape.kv_heads * blocks_of(rows, shape);
}

int64_t partial_floats(const SequenceRows& rows, const SequenceTiles& tiles, const AttentionShape& shape) {
  return shape.kv_heads * tiles.num_splits * rows.num_rows * shape.group * attention_record_floats(shape.head_dim);
}

SequenceTiles cut_sequence(const SequenceRows& rows, const AttentionShape& shape, int64_t total_work, int num_threads,
                           int64_t partial_floats_left) {
  const int64_t blocks = blocks_of(rows, shape);
  const int64_t wanted = std::max(kLeastWork, total_work / (kTilesPerThread * num_threads));
  SequenceTiles tiles = {};
  int64_t per_tile = std::min(rows.num_rows, std::max<int64_t>(1, kTileQueries / shape.group));
  if (num_threads > 1) {
    while (per_tile * shape.group > 2 * kLeastTileQueries && per_tile > 1 && per_tile * shape.group * blocks > wanted)
      per_tile = divide_up(per_tile, 2);
  }
  tiles.row_tiles = divide_up(rows.num_rows, per_tile);
  tiles.rows_per_tile = divide_up(rows.num_rows, tiles.row_tiles);
  tiles.row_tiles = divide_up(rows.num_rows, tiles.rows_per_tile);
  tiles.first_split = first_token(rows, shape) / kSplitTokens;
  tiles.num_splits = last_position(rows) / kSplitTokens - tiles.first_split + 1;
  const int64_t work = tiles.rows_per_tile * shape.group * blocks;
  tiles.is_split = num_threads > 1 && tiles.row_tiles == 1 && tiles.num_splits > 1 && work > wanted &&
                   partial_floats(rows, tiles, shape) <= partial_floats_left;
  tiles.heads_per_tile = tiles.is_split ? 1 : std::clamp<int64_t>(kLeastWork / work, 1, shape.kv_heads);
  tiles.head_tiles = divide_up(shape.kv_heads, tiles.heads_per_tile);
  return tiles;
}

}  // namespace weft
