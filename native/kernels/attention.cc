// Attention with an online softmax over blocks of tokens (Milakov and Gimelshein, 2018; Dao et al., 2022).
//
// A score is one chain of multiply-adds over head_dim, tokens in lanes; a value one chain over tokens, head_dim
// in lanes. Neither depends on which queries share a register tile, so a tile may hold any of them.
#include "kernels/attention.h"

#include <string.h>

#include <type_traits>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/attention_cache.h"

#include "kernels/attention_blocks.h"
#include "kernels/attention_rows.h"
#if defined(WEFT_KERNELS_AVX512)
#include "kernels/pairs_avx512.h"

#include "kernels/attention_pairs.h"
#endif

namespace weft::kernels::WEFT_KERNELS {

namespace {

// Up to how many queries read f16 directly; more of them share one conversion of the block to float32.
constexpr int kDirectQueries = 2 * few_rows_vectors(1) > 4 ? 6 : 12;

// Whether products are of bfloat16, as the cache is; otherwise its blocks are turned into float32.
#if defined(WEFT_KERNELS_AVX512)
bool multiplies_pairs(const AttentionTile& tile) { return tile.dtype == DType::kBF16; }
#else
constexpr bool multiplies_pairs(const AttentionTile&) { return false; }
void pack_query_pairs(const AttentionTile&) {}
void attend_pairs(const AttentionTile&, int64_t, int64_t, float*) {}
#endif

struct Workspace {
  float* sums;     // [query][16], by lane
  float* queries;  // [register tile][head_dim][rows of the tile]
  float* scores;   // [query][32]
  float* block;    // one block's keys [head_dim][32] or values [32][padded head_dim] in float32
};

Workspace workspace_of(const AttentionTile& tile) {
  const int64_t padded = num_queries(tile) + 16;
  Workspace space;
  space.sums = tile.workspace;
  space.queries = space.sums + padded * 16;
  space.scores = space.queries + padded * attention_padded_dim(tile.head_dim);
  space.block = space.scores + padded * kAttentionBlock;
  return space;
}

// Asks for the queries of all rows at once: they were written by others, each row a stride from the one before.
void ask_for_queries(const AttentionTile& tile) {
  const int64_t floats = tile.group * tile.head_dim;
  for (int64_t row = 0; row < tile.num_rows; ++row)
    for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(tile.queries + row * tile.query_stride + i);
}

void pack_queries(const AttentionTile& tile) {
  ask_for_queries(tile);
  if (multiplies_pairs(tile)) return pack_query_pairs(tile);
  const int64_t queries = num_queries(tile), per_tile = rows_per_register_tile(queries);
  const float scale = tile.scale * 1.44269504088896341f;
  float* packed = workspace_of(tile).queries;
  for (int64_t first = 0; first < queries; first += per_tile) {
    const int64_t rows = queries - first < per_tile ? queries - first : per_tile;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t query = first + r;
      const float* from = tile.queries + query / tile.group * tile.query_stride + query % tile.group * tile.head_dim;
      for (int64_t d = 0; d < tile.head_dim; ++d) packed[d * rows + r] = from[d] * scale;
    }
    packed += rows * tile.head_dim;
  }
}

// Turns 32 scores of a query into weights, of which [begin, end) are visible, and brings the query's record
// and sums to the new maximum.
inline void soften(float* scores, int64_t begin, int64_t end, float* record, int64_t padded_dim, float* sums) {
  for (int64_t token = 0; token < begin; ++token) scores[token] = kHidden;
  for (int64_t token = end; token < kTokens; ++token) scores[token] = kHidden;
  constexpr int kVectors = kTokens / kLanes;
  F32 score[kVectors];
  for (int v = 0; v < kVectors; ++v) score[v] = load(scores + v * kLanes);
  F32 top = score[0];
  for (int v = 1; v < kVectors; ++v) top = max(top, score[v]);
  F32 maximum = broadcast(record[padded_dim]);
  F32 sum = load(sums);
  if (lanes_greater(top, maximum) != 0) raise_maximum(record, padded_dim, sum, maximum, reduce_max(top));
  for (int v = 0; v < kVectors; ++v) {
    const F32 weight = exp2(sub(score[v], maximum));
    store(scores + v * kLanes, weight);
    sum = add(sum, weight);
  }
  store(sums, sum);
}

struct RowRange {
  int64_t first_row, end_row;
};

RowRange rows_that_see(const AttentionTile& tile, int64_t block) {
  RowRange rows = {block * kTokens - tile.first_position, tile.num_rows};
  if (rows.first_row < 0) rows.first_row = 0;
  if (tile.window > 0) {
    const int64_t end = block * kTokens + kTokens - 1 + tile.window - tile.first_position;
    if (end < rows.end_row) rows.end_row = end;
  }
  return rows;
}

// Scores of all queries of the register tiles that hold [first, end).
template <typename T>
void score_block(const AttentionTile& tile, const Workspace& space, const T* keys, int64_t first, int64_t end,
                 const char* next) {
  const int64_t queries = num_queries(tile), per_tile = rows_per_register_tile(queries);
  for (int64_t query = first / per_tile * per_tile; query < end; query += per_tile) {
    const int64_t rows = queries - query < per_tile ? queries - query : per_tile;
    score_rows<kMaxTileRows>(static_cast<int>(rows), keys, space.queries + query * tile.head_dim, tile.head_dim,
                             space.scores + query * kTokens, next);
  }
}

void soften_block(const AttentionTile& tile, const Workspace& space, int64_t block, RowRange rows, float* records) {
  const int64_t padded = attention_padded_dim(tile.head_dim), record_floats = attention_record_floats(tile.head_dim);
  const int64_t base = block * kTokens;
  for (int64_t row = rows.first_row; row < rows.end_row; ++row) {
    const int64_t begin = first_token(tile, row, base), end = end_token(tile, row, base, kTokens);
    for (int64_t query = row * tile.group; query < (row + 1) * tile.group; ++query)
      soften(space.scores + query * kTokens, begin, end, records + query * record_floats, padded,
             space.sums + query * 16);
  }
}

// Values of queries [first, end), of which tokens [begin_token, end_token) are visible to one at least: the
// weights of the others are 0.
template <typename T>
void value_block(const AttentionTile& tile, const Workspace& space, const T* values, int64_t stride, int64_t first,
                 int64_t end, int64_t block, float* records, const char* next) {
  const int64_t per_tile = rows_per_register_tile(end - first), record_floats = attention_record_floats(tile.head_dim);
  const int64_t columns = (tile.head_dim + kLanes - 1) / kLanes * kLanes;
  for (int64_t query = first; query < end; query += per_tile) {
    const int64_t rows = end - query < per_tile ? end - query : per_tile;
    const int64_t begin_token = first_token(tile, query / tile.group, block * kTokens);
    const int64_t stop_token = end_token(tile, (query + rows - 1) / tile.group, block * kTokens, kTokens);
    value_rows<kMaxTileRows>(static_cast<int>(rows), values, stride, columns, static_cast<int>(begin_token),
                             static_cast<int>(stop_token), space.scores + query * kTokens,
                             records + query * record_floats, record_floats, next);
  }
}

template <typename T>
void attend_block(const AttentionTile& tile, const Workspace& space, int64_t block, bool is_direct,
                  const char* next_block, float* records) {
  const RowRange rows = rows_that_see(tile, block);
  if (rows.first_row >= rows.end_row) return;
  const int64_t first = rows.first_row * tile.group, end = rows.end_row * tile.group;
  const char* data = tile.keys + tile.block_table[block] * tile.block_bytes;
  const T* keys = reinterpret_cast<const T*>(data);
  const T* values = reinterpret_cast<const T*>(data + tile.values_offset_bytes);
  if constexpr (!std::is_same_v<T, BF16Pair>) {
    if (is_direct) {
      score_block(tile, space, keys, first, end, reinterpret_cast<const char*>(values));
      soften_block(tile, space, block, rows, records);
      value_block(tile, space, values, tile.head_dim, first, end, block, records, next_block);
      return;
    }
  }
  const int64_t padded = attention_padded_dim(tile.head_dim);
  const char* here = reinterpret_cast<const char*>(space.block);
  widen_keys(keys, tile.head_dim, space.block);
  score_block(tile, space, space.block, first, end, here);
  soften_block(tile, space, block, rows, records);
  widen_values(values, tile.head_dim, space.block, padded);
  value_block(tile, space, space.block, padded, first, end, block, records, here);
}

template <typename T>
void attend_blocks(const AttentionTile& tile, const Workspace& space, int64_t first_block, int64_t end_block,
                   float* records) {
  const bool is_wide = sizeof(T) == sizeof(float);
  const bool is_direct = tile.head_dim % kLanes == 0 && (is_wide || num_queries(tile) <= kDirectQueries);
  for (int64_t block = first_block; block < end_block; ++block) {
    const int32_t next = block + 1 < end_block       ? tile.block_table[block + 1]
                         : tile.num_blocks_ahead > 0 ? tile.blocks_ahead[0]
                                                     : tile.block_table[block];
    attend_block<T>(tile, space, block, is_direct, tile.keys + next * tile.block_bytes, records);
  }
}

void attend_dtype(const AttentionTile& tile, const Workspace& space, int64_t first_block, int64_t end_block,
                  float* records) {
  if (tile.dtype == DType::kF16) return attend_blocks<uint16_t>(tile, space, first_block, end_block, records);
  if (tile.dtype == DType::kBF16) return attend_blocks<BF16Pair>(tile, space, first_block, end_block, records);
  attend_blocks<float>(tile, space, first_block, end_block, records);
}

void attend(const AttentionTile& tile, int64_t first_block, int64_t end_block, float* records) {
  if (multiplies_pairs(tile)) return attend_pairs(tile, first_block, end_block, records);
  const Workspace space = workspace_of(tile);
  start_records(num_queries(tile), tile.head_dim, records, space.sums);
  attend_dtype(tile, space, first_block, end_block, records);
  end_records(num_queries(tile), tile.head_dim, records, space.sums);
}

void merge_record(float* total, const float* record, int64_t padded_dim) {
  const float maximum = total[padded_dim] > record[padded_dim] ? total[padded_dim] : record[padded_dim];
  const F32 total_scale = exp2(broadcast(total[padded_dim] - maximum));
  const F32 record_scale = exp2(broadcast(record[padded_dim] - maximum));
  for (int64_t d = 0; d < padded_dim; d += kLanes)
    store(total + d, fma(load(record + d), record_scale, mul(load(total + d), total_scale)));
  const F32 sum = fma(broadcast(record[padded_dim + 1]), record_scale, mul(broadcast(total[padded_dim + 1]), total_scale));
  store_partial(total + padded_dim + 1, sum, 1);
  total[padded_dim] = maximum;
}

void merge(float* totals, const float* records, int64_t queries, int64_t head_dim) {
  const int64_t padded = attention_padded_dim(head_dim), record_floats = attention_record_floats(head_dim);
  for (int64_t query = 0; query < queries; ++query, totals += record_floats, records += record_floats) {
    if (records[padded + 1] == 0.0f) continue;
    if (totals[padded + 1] == 0.0f) {
      memcpy(totals, records, record_floats * sizeof(float));
    } else {
      merge_record(totals, records, padded);
    }
  }
}

// Adding 0 makes a negative zero, which an unseen token's weight of 0 could have hidden, a positive one.
void finish(const float* records, int64_t num_rows, int64_t group, int64_t head_dim, float* out, int64_t out_stride) {
  const int64_t padded = attention_padded_dim(head_dim);
  for (int64_t row = 0; row < num_rows; ++row) {
    for (int64_t head = 0; head < group; ++head, records += attention_record_floats(head_dim)) {
      float* to = out + row * out_stride + head * head_dim;
      const F32 inverse = broadcast(1.0f / records[padded + 1]);
      for (int64_t d = 0; d < head_dim; d += kLanes)
        store_partial(to + d, fma(load(records + d), inverse, zero()), head_dim - d);
    }
  }
}

}  // namespace

const AttentionKernels kAttention = {pack_queries, attend, merge, finish, write_token, ask_for_token};

}  // namespace weft::kernels::WEFT_KERNELS
