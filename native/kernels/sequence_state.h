// What sequence attention keeps of rows and of blocks between products, and what it does with scores: shared by the
// float32 form and that over pairs of bfloat16. Included after kernels/sequence_blocks.h.
#pragma once

#include <string.h>

#include "kernels/sequence_attention.h"

namespace weft::kernels::WEFT_KERNELS {

constexpr float kHidden = -1e30f;  // below any score; 2^(kHidden - maximum) is exactly 0
constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.69314718055994531f;

static inline int64_t padded_rows(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows * kBlockRows; }

// The running state of queries: sums of weighted values, of weights by lane, and the largest score.
struct QueryState {
  float *values, *sum, *maximum;
};
struct ForwardState {
  float *values, *sums, *maxima;

  QueryState at(int64_t index, int64_t padded) const {
    return {values + index * padded, sums + index * 16, maxima + index};
  }
  void reset(int64_t queries, int64_t padded) const {
    memset(values, 0, static_cast<size_t>(queries * padded) * sizeof(float));
    memset(sums, 0, static_cast<size_t>(queries) * 16 * sizeof(float));
    for (int64_t query = 0; query < queries; ++query) maxima[query] = kHidden;
  }
};

// The first token of the blocks that rows from `first_row` on see.
static inline int64_t first_seen_block(const SequenceHeads& heads, int64_t first_row) {
  const int64_t first_seen = heads.window > 0 ? most(0, first_row - heads.window + 1) : 0;
  return first_seen / kBlockTokens * kBlockTokens;
}

static inline void put(float* to, F32 value) { store(to, value); }
static inline void put(uint16_t* to, F32 value) { store_bf16(to, value); }

// Turns the scores of a query in [from, to), of which [begin, end) are visible, into weights, and brings the
// query's state to the new maximum. The weights may lie where the scores do.
template <class Weight>
static inline void soften(float* scores, Weight* weights, int64_t from, int64_t to, int64_t begin, int64_t end, const QueryState& query,
                   int64_t padded) {
  for (int64_t t = from; t < begin; ++t) scores[t] = kHidden;
  for (int64_t t = end; t < to; ++t) scores[t] = kHidden;
  F32 top = load(scores + from);
  for (int64_t t = from + kLanes; t < to; t += kLanes) top = max(top, load(scores + t));
  F32 maximum = broadcast(*query.maximum), sum = load(query.sum);
  if (lanes_greater(top, maximum) != 0) {
    *query.maximum = reduce_max(top);
    const F32 rescale = exp2(sub(maximum, broadcast(*query.maximum)));
    maximum = broadcast(*query.maximum);
    sum = mul(sum, rescale);
    for (int64_t d = 0; d < padded; d += kLanes) store(query.values + d, mul(load(query.values + d), rescale));
  }
  for (int64_t t = from; t < to; t += kLanes) {
    const F32 weight = exp2(sub(load(scores + t), maximum));
    put(weights + t, weight);
    sum = add(sum, weight);
  }
  store(query.sum, sum);
}

template <class Weight>
static inline void soften_block(const Block& block, float* scores, Weight* weights, const QueryState& first, int64_t padded) {
  for (int64_t row = 0; row < block.num_rows; ++row) {
    const int64_t tile = row / kTileQueries * kTileQueries;
    const int64_t from = panel_floor(block.begin_token(tile));
    const int64_t to = panel_ceiling(block.end_token(tile + kTileQueries - 1));
    const int64_t begin = block.begin_token(row), end = block.end_token(row);
    const QueryState query = {first.values + row * padded, first.sum + row * 16, first.maximum + row};
    Weight* of_row = weights + row * kBlockTokens;
    if (begin < end) {
      soften(scores + row * kBlockTokens, of_row, from, to, begin, end, query, padded);
    } else {
      for (int64_t t = from; t < to; ++t) of_row[t] = 0;
    }
  }
}

// What a block of tokens, and of rows, has gathered.
struct BlockGradients {
  int64_t padded;
  float *d_keys, *d_values, *d_queries;

  void reset() const {
    memset(d_keys, 0, static_cast<size_t>(kPaddedTokens * padded) * sizeof(float));
    memset(d_values, 0, static_cast<size_t>(kPaddedTokens * padded) * sizeof(float));
  }
};

// Of each row of the block: log_sum_exp / log(2), and scale * (d_out . out).
static inline void row_products(const SequenceHeads& heads, const SequenceGradients& gradients, const Block& block, int64_t head,
                         float* log_sums, float* products) {
  const int64_t column = head * heads.head_dim;
  for (int64_t row = block.first_row; row < block.first_row + block.num_rows; ++row) {
    const float* d_out = gradients.d_out + row * gradients.d_out_stride + column;
    const float* out = gradients.out + row * gradients.out_stride + column;
    F32 sum = zero();
    each_vector(heads.head_dim, [&](int64_t d, auto vector) { sum = fma(vector.load(out + d), vector.load(d_out + d), sum); });
    *products++ = heads.scale * reduce_add(sum);
    *log_sums++ = kLog2E * gradients.log_sum_exp[row * gradients.log_sum_exp_stride + head];
  }
}

static inline void add_d_queries(const SequenceHeads& heads, const SequenceGradients& gradients, const BlockGradients& own,
                          const Block& block, int64_t head, int64_t first_row) {
  float* to = gradients.d_q + (block.first_row - first_row) * gradients.d_q_stride + head * heads.head_dim;
  const float* from = own.d_queries;
  for (int64_t row = 0; row < block.num_rows; ++row, to += gradients.d_q_stride, from += own.padded) {
    each_vector(heads.head_dim, [&](int64_t d, auto vector) {
      vector.store(to + d, add(vector.load(to + d), load(from + d)));
    });
  }
}

// The end of the rows that see any of `tokens` tokens.
static inline int64_t end_of_readers(const SequenceHeads& heads, int64_t first_token, int64_t tokens) {
  const int64_t seen = heads.window > 0 ? first_token + tokens - 1 + heads.window : heads.num_rows;
  return least(heads.num_rows, seen);
}

}  // namespace weft::kernels::WEFT_KERNELS
