// Kernels of attention over a paged cache of keys and values.
#pragma once

#include <stdint.h>

#include "base/types.h"

namespace weft {

// Some rows of one sequence and the query heads that share one key/value head: query q = row * group + head.
//
// The cache is in blocks of 32 tokens: token t of the sequence is token t % 32 of block
// block_table[t / 32]; a block holds keys [head_dim][32] and values [32][head_dim]. In bfloat16 it holds pairs, as
// dot instructions take them: keys [head_dim / 2, rounded up][32][2 features], values [16][head_dim][2 tokens].
struct AttentionTile {
  const float* queries;        // head 0 of the group in row 0; the group's heads follow it, head_dim apart
  int64_t query_stride;        // elements between rows
  int64_t num_rows;
  int64_t group;               // query heads that share the key/value head
  int64_t head_dim;
  int64_t first_position;      // of row 0; row r is at first_position + r
  int64_t window;              // how many tokens a row sees, itself included; 0: all before it
  float scale;                 // of the scores
  const char* keys;            // of this layer and head in physical block 0
  int64_t block_bytes;         // between physical blocks
  int64_t values_offset_bytes; // from a block's keys to its values
  DType dtype;                 // of the cache: kF32, kF16 or kBF16
  const int32_t* block_table;
  const int32_t* blocks_ahead;  // those that the tile after this one sees, to be asked for meanwhile
  int64_t num_blocks_ahead;
  float* workspace;            // attention_workspace_floats(...) floats, aligned to 64 bytes
};

constexpr int64_t kAttentionBlock = 32;              // tokens
constexpr int64_t kAttentionStretchFloats = 12 * 192;  // of 12 queries and 128 tokens: scores, weights in bfloat16

// Floats of one query's partial result: the weighted sum of values (head_dim, padded), the maximum of the
// scores (in units of log 2) and the sum of the weights.
static inline constexpr int64_t attention_padded_dim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline constexpr int64_t attention_record_floats(int64_t head_dim) { return attention_padded_dim(head_dim) + 16; }

// Floats of workspace for a tile of up to `num_queries` (rows * group): packed queries (a tile's last group of
// rows is padded), scores, sums by lane, and one block in float32 or the scores and weights of a stretch of blocks.
static inline constexpr int64_t attention_workspace_floats(int64_t num_queries, int64_t head_dim) {
  const int64_t block = kAttentionBlock * attention_padded_dim(head_dim);
  return (num_queries + 16) * (attention_padded_dim(head_dim) + kAttentionBlock + 16) +
         (block > kAttentionStretchFloats ? block : kAttentionStretchFloats);
}

struct AttentionKernels {
  // Packs the tile's queries, times scale / log(2), into its workspace; call before `attend`.
  void (*pack_queries)(const AttentionTile& tile);

  // records[q] = softmax numerators of the tokens of blocks [first_block, end_block) that query q may see:
  //
  //   maximum = -1e30, sum = 0, values = 0
  //   for block: m = max(maximum, scores); all of sum, values *= 2^(maximum - m); maximum = m
  //              for token t: p = 2^(score[t] - m); sum += p; values += p * V[t]
  //
  // A query that sees none of these tokens gets sum 0. Each query's result is independent of the others. Where the
  // processor multiplies bfloat16 and the cache holds it, queries and p are rounded to it before the products, and
  // blocks are taken four at a time, from multiples of four on.
  void (*attend)(const AttentionTile& tile, int64_t first_block, int64_t end_block, float* records);

  // totals[q] = totals[q] and records[q] together, for `num_queries` queries; a record of sum 0 counts nothing.
  void (*merge)(float* totals, const float* records, int64_t num_queries, int64_t head_dim);

  // out[row][head][d] = values / sum of records[row * group + head]; heads are head_dim apart.
  void (*finish)(const float* records, int64_t num_rows, int64_t group, int64_t head_dim, float* out,
                 int64_t out_stride);

  // Stores one token's key and value of one head as token `offset` of a block. Values are limited to +-65504
  // in f16 and to finite numbers in f32 and bf16 (a NaN becomes the upper limit), so that a cache is always finite.
  void (*write)(const float* key, const float* value, int64_t head_dim, int64_t offset, DType dtype, void* keys,
                void* values);

  // Asks for the memory that write() of this token will change: soon, or `early`, when the second cache is near enough.
  void (*ask_for_token)(int64_t head_dim, int64_t offset, DType dtype, const void* keys, const void* values,
                        bool early);
};

}  // namespace weft
