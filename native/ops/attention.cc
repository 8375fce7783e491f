#include <algorithm>

#include "memory/kv_cache.h"
#include "ops/attention_schedule.h"
#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// Partial results of sequences that are split are kept up to this size; beyond it a sequence is not split.
constexpr int64_t kMostPartialBytes = int64_t{4} << 20;

// A sequence's place in the lists of tiles.
struct Placed {
  SequenceRows rows;
  SequenceTiles tiles;
  int64_t end_tile;        // of phase 0, over all sequences so far
  int64_t end_merge;       // of phase 1
  int64_t first_partial;   // in the shared memory, in floats
};

// out[r, h] = sum over tokens t that row r sees of softmax(scale * q[r, h] . K[t, h / group])[t] * V[t, h / group]
//
// Phase 0: tiles of rows x one or a few key/value heads; a tile walks its 512-token splits in ascending order
// and merges each into the total. A sequence of few rows and a long past is instead split over tiles, and
// phase 1 merges the splits' partial results: the same operations in the same order.
class Attention final : public Op {
 public:
  explicit Attention(const NodeSpec& spec);

  int num_phases() const override { return 2; }
  size_t scratch_bytes() const override;
  size_t shared_bytes() const override { return static_cast<size_t>(shape_.partial_floats) * sizeof(float) + 64; }
  void check(const OpArgs& args) const override;
  int64_t num_tiles(int phase, const OpArgs& args) const override;
  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override;

 private:
  SequenceRows sequence(const OpArgs& args, int64_t index) const;
  void check_sequence(const OpArgs& args, int64_t index, int64_t expected_row) const;
  template <typename Visit>
  void place(const OpArgs& args, const Visit& visit) const;
  const Placed* placed(const OpArgs& args, int thread) const;
  // The first token that a row at `position` sees.
  int64_t first_seen(int64_t position) const {
    return shape_.window > 0 ? std::max<int64_t>(0, position - shape_.window + 1) : 0;
  }
  int64_t tile_queries() const { return std::max(kTileQueries, shape_.group); }
  float* workspace(const OpArgs& args, int thread) const;
  float* partial(const OpArgs& args, const Placed& at, int64_t kv_head, int64_t split) const;
  AttentionTile tile_of(const OpArgs& args, const Placed& at, int64_t row, int64_t rows, int64_t kv_head, int thread) const;
  void look_ahead(const OpArgs& args, const SequenceRows& next, AttentionTile& tile) const;
  void run_split(const OpArgs& args, const Placed& at, int64_t tile, int thread) const;
  void run_whole(const OpArgs& args, const Placed& at, int64_t tile, int thread) const;
  void run_head(const OpArgs& args, const Placed& at, int64_t row, int64_t rows, int64_t kv_head, int thread) const;
  void attend(const OpArgs& args, const AttentionTile& tile, int64_t split, float* records) const;
  void ask_for_output(const OpArgs& args, int64_t first_row, int64_t rows, int64_t kv_head) const;
  void merge_splits(const OpArgs& args, const Placed& at, int64_t kv_head) const;
  void finish(const OpArgs& args, const float* records, int64_t first_row, int64_t rows, int64_t kv_head) const;

  int q_, sequences_, block_table_;
  std::shared_ptr<KvCache> cache_;
  int64_t layer_, max_rows_;
  float scale_;
  AttentionShape shape_;
};

Attention::Attention(const NodeSpec& spec)
    : q_(spec.input("q")), sequences_(spec.input("sequences")), block_table_(spec.input("block_table")),
      cache_(cache_of(spec)), layer_(integer(spec, "layer", 0)), max_rows_(std::max<int64_t>(1, spec.max_rows)),
      scale_(static_cast<float>(spec.number("scale"))) {
  const int64_t heads = integer(spec, "heads", 1);
  shape_ = {cache_->kv_heads(), heads / cache_->kv_heads(), cache_->head_dim(),
            spec.numbers.count("window") ? integer(spec, "window", 0) : 0, 0};
  if (heads % shape_.kv_heads)
    refuse_node(spec, "heads in equal groups of " + std::to_string(shape_.kv_heads), std::to_string(heads));
  for (const char* name : {"q", "out"}) expect_columns(spec, name, heads * shape_.head_dim);
  expect_columns(spec, "sequences", 4);
  expect_columns(spec, "block_table", 1);
  const int64_t splits = cache_->num_slots() / kSplitTokens + 1;
  const int64_t most = kMostPartialBytes / static_cast<int64_t>(sizeof(float));
  const int64_t per_split = heads * attention_record_floats(shape_.head_dim);
  shape_.partial_floats = std::min(most, per_split * std::min(most, splits * std::min<int64_t>(max_rows_, kTileQueries)));
}

// [placement of the sequences][workspace][two sets of records]
size_t Attention::scratch_bytes() const {
  const int64_t floats = attention_workspace_floats(tile_queries(), shape_.head_dim) +
                         2 * tile_queries() * attention_record_floats(shape_.head_dim);
  return (max_rows_ + 1) * sizeof(Placed) + floats * sizeof(float) + 128;
}

SequenceRows Attention::sequence(const OpArgs& args, int64_t index) const {
  const int32_t* columns = args.in[sequences_].i32_row(index);
  return {columns[0], columns[1], columns[2], columns[3]};
}

void Attention::check_sequence(const OpArgs& args, int64_t index, int64_t expected_row) const {
  const SequenceRows rows = sequence(args, index);
  const std::string who = "sequence " + std::to_string(index) + " of attention ";
  if (rows.first_row != expected_row || rows.num_rows < 1) {
    throw Error(ErrorKind::kValue, who + "expects at least one row from row " + std::to_string(expected_row) + " on, got " +
                                       std::to_string(rows.num_rows) + " from " + std::to_string(rows.first_row) +
                                       "; list sequences in the order of their rows");
  }
  const Matrix& table = args.in[block_table_];
  const int64_t num_blocks = (rows.first_position + rows.num_rows - 1) / kAttentionBlock + 1;
  if (rows.first_position < 0 || rows.first_block < 0 || rows.first_block + num_blocks > table.rows) {
    throw Error(ErrorKind::kValue, who + "expects " + std::to_string(num_blocks) + " blocks from index " +
                                       std::to_string(rows.first_block) + " on, got a table of " +
                                       std::to_string(table.rows) + "; list the blocks of all its tokens");
  }
  for (int64_t block = first_seen(rows.first_position) / kAttentionBlock; block < num_blocks; ++block) {
    const int32_t physical = *table.i32_row(rows.first_block + block);
    if (physical >= 0 && physical < cache_->num_blocks()) continue;
    throw Error(ErrorKind::kValue, who + "expects blocks from 0 to " + std::to_string(cache_->num_blocks() - 1) +
                                       ", got " + std::to_string(physical) + "; use blocks of this cache");
  }
}

void Attention::check(const OpArgs& args) const {
  if (args.in[block_table_].row_stride != 1)
    throw Error(ErrorKind::kPlan, "attention expects a block table without gaps, got one with; pass it as an input");
  int64_t expected_row = 0;
  for (int64_t index = 0; index < args.in[sequences_].rows; ++index) {
    check_sequence(args, index, expected_row);
    expected_row += sequence(args, index).num_rows;
  }
  expect_rows(expected_row, args.in[q_].rows, "attention's sequences");
}

// Calls visit(Placed) for each sequence in order.
template <typename Visit>
void Attention::place(const OpArgs& args, const Visit& visit) const {
  const int64_t count = args.in[sequences_].rows;
  int64_t total_work = 0, partials_used = 0;
  for (int64_t index = 0; index < count; ++index) total_work += attention_work(sequence(args, index), shape_);
  Placed at = {};
  for (int64_t index = 0; index < count; ++index) {
    at.rows = sequence(args, index);
    at.tiles = cut_sequence(at.rows, shape_, total_work, args.num_threads, shape_.partial_floats - partials_used);
    at.end_tile += at.tiles.num_tiles();
    at.first_partial = partials_used;
    if (at.tiles.is_split) {
      at.end_merge += shape_.kv_heads;
      partials_used += partial_floats(at.rows, at.tiles, shape_);
    }
    visit(at);
  }
}

int64_t Attention::num_tiles(int phase, const OpArgs& args) const {
  int64_t count = 0;
  place(args, [&](const Placed& at) { count = phase == 0 ? at.end_tile : at.end_merge; });
  return count;
}

// The placement is worked out once by each thread that takes a tile.
const Placed* Attention::placed(const OpArgs& args, int thread) const {
  ThreadScratch& scratch = args.scratch[thread];
  Placed* list = static_cast<Placed*>(scratch.data);
  if (scratch.owner == this && scratch.run == args.run) return list;
  int64_t count = 0;
  place(args, [&](const Placed& at) { list[count++] = at; });
  scratch.owner = this;
  scratch.run = args.run;
  return list;
}

float* Attention::workspace(const OpArgs& args, int thread) const {
  const uintptr_t end = reinterpret_cast<uintptr_t>(args.scratch[thread].data) + (max_rows_ + 1) * sizeof(Placed);
  return reinterpret_cast<float*>((end + 63) / 64 * 64);
}

float* Attention::partial(const OpArgs& args, const Placed& at, int64_t kv_head, int64_t split) const {
  const uintptr_t start = (reinterpret_cast<uintptr_t>(args.shared) + 63) / 64 * 64;
  const int64_t record = (kv_head * at.tiles.num_splits + split) * at.rows.num_rows * shape_.group;
  return reinterpret_cast<float*>(start) + at.first_partial + record * attention_record_floats(shape_.head_dim);
}

AttentionTile Attention::tile_of(const OpArgs& args, const Placed& at, int64_t row, int64_t rows, int64_t kv_head,
                                 int thread) const {
  const Matrix& q = args.in[q_];
  AttentionTile tile;
  tile.queries = q.f32_row(at.rows.first_row + row) + kv_head * shape_.group * shape_.head_dim;
  tile.query_stride = q.row_stride;
  tile.num_rows = rows;
  tile.group = shape_.group;
  tile.head_dim = shape_.head_dim;
  tile.first_position = at.rows.first_position + row;
  tile.window = shape_.window;
  tile.scale = scale_;
  tile.keys = cache_->keys(layer_, kv_head);
  tile.block_bytes = cache_->block_bytes();
  tile.values_offset_bytes = cache_->values_offset_bytes();
  tile.dtype = cache_->dtype();
  tile.block_table = args.in[block_table_].i32_row(at.rows.first_block);
  tile.blocks_ahead = nullptr;
  tile.num_blocks_ahead = 0;
  const bool is_last = at.rows.first_row + at.rows.num_rows == q.rows;
  if (!is_last) look_ahead(args, (&at)[1].rows, tile);
  tile.workspace = workspace(args, thread);
  return tile;
}

// So that the blocks of `next`, the sequence after the tile's, come from memory while the tile is computed.
void Attention::look_ahead(const OpArgs& args, const SequenceRows& next, AttentionTile& tile) const {
  const int64_t first = first_seen(next.first_position) / kAttentionBlock;
  tile.blocks_ahead = args.in[block_table_].i32_row(next.first_block + first);
  tile.num_blocks_ahead = (next.first_position + next.num_rows - 1) / kAttentionBlock + 1 - first;
}

void Attention::run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const {
  const Placed* list = placed(args, thread);
  const Placed* end = list + args.in[sequences_].rows;
  const auto end_of = [phase](const Placed& at) { return phase == 0 ? at.end_tile : at.end_merge; };
  const Placed* at = std::partition_point(list, end, [&](const Placed& before) { return end_of(before) <= tile; });
  const int64_t index = tile - (at == list ? 0 : end_of(at[-1]));
  if (phase == 1) {
    merge_splits(args, *at, index);
  } else if (at->tiles.is_split) {
    run_split(args, *at, index, thread);
  } else {
    run_whole(args, *at, index, thread);
  }
}

void Attention::attend(const OpArgs& args, const AttentionTile& tile, int64_t split, float* records) const {
  const int64_t last = tile.first_position + tile.num_rows - 1;
  const int64_t first = first_seen(tile.first_position);
  const int64_t begin = std::max(split * kSplitTokens, first) / kAttentionBlock;
  const int64_t end = std::min((split + 1) * kSplitTokens - 1, last) / kAttentionBlock + 1;
  AttentionTile part = tile;
  if (end <= last / kAttentionBlock) {
    part.blocks_ahead = tile.block_table + end;
    part.num_blocks_ahead = last / kAttentionBlock + 1 - end;
  }
  args.kernels->attention->attend(part, begin, end, records);
}

void Attention::run_split(const OpArgs& args, const Placed& at, int64_t tile, int thread) const {
  const int64_t kv_head = tile / at.tiles.num_splits, split = tile % at.tiles.num_splits;
  const AttentionTile queries = tile_of(args, at, 0, at.rows.num_rows, kv_head, thread);
  args.kernels->attention->pack_queries(queries);
  attend(args, queries, at.tiles.first_split + split, partial(args, at, kv_head, split));
}

// Later rows see more tokens: they come first, so that the last tiles to be taken are small.
void Attention::run_whole(const OpArgs& args, const Placed& at, int64_t tile, int thread) const {
  const int64_t row_tile = at.tiles.row_tiles - 1 - tile / at.tiles.head_tiles;
  const int64_t row = row_tile * at.tiles.rows_per_tile;
  const int64_t rows = std::min(at.tiles.rows_per_tile, at.rows.num_rows - row);
  const int64_t first_head = tile % at.tiles.head_tiles * at.tiles.heads_per_tile;
  const int64_t end_head = std::min(shape_.kv_heads, first_head + at.tiles.heads_per_tile);
  for (int64_t head = first_head; head < end_head; ++head) run_head(args, at, row, rows, head, thread);
}

// So that finish() finds the lines that it writes.
void Attention::ask_for_output(const OpArgs& args, int64_t first_row, int64_t rows, int64_t kv_head) const {
  const int64_t floats = shape_.group * shape_.head_dim;
  for (int64_t row = first_row; row < first_row + rows; ++row) {
    const float* out = args.out[0].f32_row(row) + kv_head * floats;
    for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(out + i, 1);
  }
}

void Attention::run_head(const OpArgs& args, const Placed& at, int64_t row, int64_t rows, int64_t kv_head,
                         int thread) const {
  const AttentionTile tile = tile_of(args, at, row, rows, kv_head, thread);
  const int64_t queries = rows * shape_.group;
  float* total = tile.workspace + attention_workspace_floats(tile_queries(), shape_.head_dim);
  float* records = total + queries * attention_record_floats(shape_.head_dim);
  const int64_t first = first_seen(tile.first_position);
  const int64_t first_split = first / kSplitTokens, end_split = (tile.first_position + rows - 1) / kSplitTokens + 1;
  args.kernels->attention->pack_queries(tile);
  ask_for_output(args, at.rows.first_row + row, rows, kv_head);
  attend(args, tile, first_split, total);
  for (int64_t split = first_split + 1; split < end_split; ++split) {
    attend(args, tile, split, records);
    args.kernels->attention->merge(total, records, queries, shape_.head_dim);
  }
  finish(args, total, at.rows.first_row + row, rows, kv_head);
}

void Attention::merge_splits(const OpArgs& args, const Placed& at, int64_t kv_head) const {
  float* total = partial(args, at, kv_head, 0);
  for (int64_t split = 1; split < at.tiles.num_splits; ++split) {
    args.kernels->attention->merge(total, partial(args, at, kv_head, split), at.rows.num_rows * shape_.group,
                                   shape_.head_dim);
  }
  finish(args, total, at.rows.first_row, at.rows.num_rows, kv_head);
}

void Attention::finish(const OpArgs& args, const float* records, int64_t first_row, int64_t rows, int64_t kv_head) const {
  const Matrix& out = args.out[0];
  args.kernels->attention->finish(records, rows, shape_.group, shape_.head_dim,
                                  out.f32_row(first_row) + kv_head * shape_.group * shape_.head_dim, out.row_stride);
}

}  // namespace

std::unique_ptr<Op> make_attention(const NodeSpec& spec) { return std::make_unique<Attention>(spec); }

}  // namespace weft
