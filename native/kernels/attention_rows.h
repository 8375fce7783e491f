// Which tokens the rows of a tile may see, and the state of a query. Included by attention.cc only, after
// kernels/simd.h.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

constexpr float kHidden = -1e30f;  // below any score; 2^(kHidden - maximum) is exactly 0

static inline int64_t num_queries(const AttentionTile& tile) { return tile.num_rows * tile.group; }

// Of `count` tokens from token `base` of the sequence on, row `row` sees [first_token, end_token): none where that
// is empty.
static inline int64_t first_token(const AttentionTile& tile, int64_t row, int64_t base) {
  const int64_t first = tile.first_position + row - tile.window + 1 - base;
  return tile.window > 0 && first > 0 ? first : 0;
}
static inline int64_t end_token(const AttentionTile& tile, int64_t row, int64_t base, int64_t count) {
  const int64_t end = tile.first_position + row + 1 - base;
  return end < count ? end : count;
}

// Queries in as few register tiles as possible, of nearly equal size.
static inline int64_t rows_per_register_tile(int64_t queries) {
  const int64_t tiles = (queries + kMaxTileRows - 1) / kMaxTileRows;
  return (queries + tiles - 1) / tiles;
}

// Records of queries, their sums by lane apart, before any token; and with the lanes added up, after all.
static inline void start_records(int64_t queries, int64_t head_dim, float* records, float* sums) {
  const int64_t padded = attention_padded_dim(head_dim), record_floats = attention_record_floats(head_dim);
  memset(records, 0, queries * record_floats * sizeof(float));
  for (int64_t query = 0; query < queries; ++query) records[query * record_floats + padded] = kHidden;
  memset(sums, 0, queries * 16 * sizeof(float));
}
static inline void end_records(int64_t queries, int64_t head_dim, float* records, const float* sums) {
  float* sum = records + attention_padded_dim(head_dim) + 1;
  for (int64_t query = 0; query < queries; ++query, sum += attention_record_floats(head_dim), sums += 16)
    *sum = reduce_add(load(sums));
}

// Brings a query's values, its sum by lane and its maximum to a higher maximum.
static inline void raise_maximum(float* record, int64_t padded_dim, F32& sum, F32& maximum, float higher) {
  const F32 rescale = exp2(sub(maximum, broadcast(higher)));
  record[padded_dim] = higher;
  maximum = broadcast(higher);
  sum = mul(sum, rescale);
  for (int64_t d = 0; d < padded_dim; d += kLanes) store(record + d, mul(load(record + d), rescale));
}

}  // namespace weft::kernels::WEFT_KERNELS
