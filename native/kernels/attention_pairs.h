// Attention over a cache of bfloat16 pairs with the dot instruction of AVX-512, a stretch of four blocks at a time:
// scores, softmax and values of up to twelve queries follow one another while they lie in the first cache.
//
// A score is one chain of dots over pairs of features, tokens in lanes; a value one chain over pairs of tokens,
// features in lanes; the maximum is raised once a stretch. A stretch begins at a multiple of 128 tokens, so none of it
// depends on the other queries. Included by attention.cc only, after kernels/pairs_avx512.h.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

constexpr int kStretchBlocks = 4;
constexpr int kStretchTokens = kStretchBlocks * kTokens;
constexpr int64_t kWeightWords = kStretchTokens / 2;
static_assert(kAttentionStretchFloats == kMaxTileRows * (kStretchTokens + kWeightWords));

// The blocks of a stretch; those that no query of the tile sees are unset.
struct Stretch {
  const int32_t* keys[kStretchBlocks];    // [pairs of features][32 tokens]
  const int32_t* values[kStretchBlocks];  // [16 pairs of tokens][features]
  const char* next[kStretchBlocks];       // keys of the blocks that will be read after these
  int64_t values_offset_bytes;            // from keys to values
  int tokens;                             // from the first block on, that a query of the tile sees
};

// Asks for what is read a stretch later: into the second cache, which more lines can be under way to than to the first.
template <int kBytes>
static inline void prefetch_early(const char* from) {
  for (int byte = 0; byte < kBytes; byte += 64) __builtin_prefetch(from + byte, 0, 2);
}

struct PairSpace {
  int32_t* queries;   // [query][pairs of features]
  float* sums;        // [query][16], by lane
  float* scores;      // [query of the register tile][128]
  uint16_t* weights;  // [query of the register tile][128]
};

static inline int64_t feature_pairs(const AttentionTile& tile) { return (tile.head_dim + 1) / 2; }

static inline PairSpace pair_space_of(const AttentionTile& tile) {
  PairSpace space;
  space.sums = tile.workspace;
  space.scores = space.sums + num_queries(tile) * 16;
  space.weights = reinterpret_cast<uint16_t*>(space.scores + kMaxTileRows * kStretchTokens);
  space.queries = reinterpret_cast<int32_t*>(space.weights + kMaxTileRows * kStretchTokens);
  return space;
}

static inline void pack_query_pairs(const AttentionTile& tile) {
  const F32 scale = broadcast(tile.scale * 1.44269504088896341f);
  uint16_t* to = reinterpret_cast<uint16_t*>(pair_space_of(tile).queries);
  for (int64_t query = 0; query < num_queries(tile); ++query, to += 2 * feature_pairs(tile)) {
    const float* from = tile.queries + query / tile.group * tile.query_stride + query % tile.group * tile.head_dim;
    int64_t d = 0;
    for (; d + kLanes <= tile.head_dim; d += kLanes) store_bf16(to + d, mul(load(from + d), scale));
    if (d == tile.head_dim) continue;
    uint16_t last[kLanes];
    store_bf16(last, mul(load_partial(from + d, tile.head_dim - d), scale));
    memcpy(to + d, last, (2 * feature_pairs(tile) - d) * sizeof(uint16_t));
  }
}

// sums[r][v] += pairs[r * stride] . vector(v): the operand of which there are fewer stays in registers.
template <int R, int V, typename Vector>
static inline __attribute__((always_inline)) void add_dots(F32 (&sums)[R][V], const int32_t* pairs, int64_t stride,
                                                           const Vector& vector) {
  if constexpr (R < V) {
    F32 scalars[R];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) scalars[r] = broadcast_word(pairs + r * stride);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const F32 words = vector(v);
#pragma GCC unroll 12
      for (int r = 0; r < R; ++r) sums[r][v] = dot_pairs(sums[r][v], scalars[r], words);
    }
  } else {
    F32 words[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) words[v] = vector(v);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const F32 scalar = broadcast_word(pairs + r * stride);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] = dot_pairs(sums[r][v], scalar, words[v]);
    }
  }
}

// scores[r][t] = sum over pairs of features of queries[r] . keys[t] for the 16 * V tokens from vector `first` of the
// stretch on, which is even but where V is 1. Meanwhile asks for the values of the same blocks; of the last one, which
// may have just begun, for those that are seen; and early for the keys of the next blocks.
template <int R, int V>
static void score_pairs(const Stretch& stretch, int first, const int32_t* queries, int64_t pairs, float* scores) {
  constexpr int kBlocks = (V + 1) / 2, kLastBytes = V == 1 ? 64 : 128;
  const int32_t* keys[kBlocks];
  const char *values[kBlocks], *next[kBlocks];
  for (int b = 0; b < kBlocks; ++b) {
    keys[b] = stretch.keys[first / 2 + b] + first % 2 * kLanes;
    values[b] = reinterpret_cast<const char*>(stretch.values[first / 2 + b]) + first % 2 * 64;
    next[b] = stretch.next[first / 2 + b] + first % 2 * 64;
  }
  const int seen = stretch.tokens - (first / 2 + kBlocks - 1) * kTokens;
  const int64_t last_step = seen < kTokens ? (seen + 1) / 2 * 8 : 128;
  F32 sums[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = zero();
#pragma GCC unroll 1
  for (int64_t pair = 0; pair < pairs; ++pair) {
#pragma GCC unroll 4
    for (int b = 0; b + 1 < kBlocks; ++b) prefetch<128>(values[b] + pair * 128);
    prefetch<kLastBytes>(values[kBlocks - 1] + pair * last_step);
#pragma GCC unroll 4
    for (int b = 0; b + 1 < kBlocks; ++b) prefetch_early<128>(next[b] + pair * 128);
    prefetch_early<kLastBytes>(next[kBlocks - 1] + pair * 128);
    add_dots<R, V>(sums, queries + pair, pairs,
                   [&](int v) { return load_words(keys[v / 2] + pair * kTokens + v % 2 * kLanes); });
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(scores + r * kStretchTokens + (first + v) * kLanes, sums[r][v]);
}

// out[r][c] += sum over pairs [begin, end) of tokens of weights[r] . values[c] for V vectors of columns from `column`
// on, the last of them of `count` columns. Meanwhile asks early for the values of the next blocks.
template <int R, int V>
static void value_pairs(const Stretch& stretch, int64_t column, int64_t count, int64_t head_dim, int begin, int end,
                        const int32_t* weights, float* out, int64_t out_stride) {
  F32 sums[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = load(out + r * out_stride + column + v * kLanes);
  while (begin < end) {
    const int block = begin / (kTokens / 2), from = begin % (kTokens / 2);
    const int stop = (block + 1) * (kTokens / 2) < end ? (block + 1) * (kTokens / 2) : end;
    const int32_t* values = stretch.values[block] + from * head_dim + column;
    const char* next = stretch.next[block] + stretch.values_offset_bytes + (from * head_dim + column) * 4;
#pragma GCC unroll 1
    for (; begin < stop; ++begin, values += head_dim, next += head_dim * 4) {
      prefetch_early<V * 64>(next);
      add_dots<R, V>(sums, weights + begin, kWeightWords, [&](int v) {
        return V == 1 ? load_words(values, count) : load_words(values + v * kLanes);
      });
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(out + r * out_stride + column + v * kLanes, sums[r][v]);
}

// Scores of R queries for vectors [begin, end) of 16 tokens.
template <int R>
static void score_vectors(const Stretch& stretch, int begin, int end, const int32_t* queries, int64_t pairs,
                          float* scores) {
  if (begin % 2 == 1) score_pairs<R, 1>(stretch, begin++, queries, pairs, scores);
  if constexpr (R <= 3)
    for (; begin + 8 <= end; begin += 8) score_pairs<R, 8>(stretch, begin, queries, pairs, scores);
  if constexpr (R <= 6)
    for (; begin + 4 <= end; begin += 4) score_pairs<R, 4>(stretch, begin, queries, pairs, scores);
  for (; begin + 2 <= end; begin += 2) score_pairs<R, 2>(stretch, begin, queries, pairs, scores);
  if (begin < end) score_pairs<R, 1>(stretch, begin, queries, pairs, scores);
}

// Values of R queries for pairs [begin, end) of tokens.
template <int R>
static void value_rows_of_pairs(const Stretch& stretch, int64_t head_dim, int begin, int end, const int32_t* weights,
                                float* out, int64_t out_stride) {
  constexpr int V = value_vectors(R);
  int64_t column = 0;
  for (; column + V * kLanes <= head_dim; column += V * kLanes)
    value_pairs<R, V>(stretch, column, kLanes, head_dim, begin, end, weights, out, out_stride);
  for (; column < head_dim; column += kLanes)
    value_pairs<R, 1>(stretch, column, head_dim - column, head_dim, begin, end, weights, out, out_stride);
}

// The highest of a query's scores in vectors [first, last) of 16 tokens, after hiding those outside of [begin, end).
static inline float hide_and_find_top(float* scores, int first, int last, int begin, int end) {
  for (int v = first; v < last && v * kLanes < begin; ++v)
    _mm512_mask_storeu_ps(scores + v * kLanes, partial_mask(begin - v * kLanes), broadcast(kHidden));
  for (int v = end > first * kLanes ? end / kLanes : first; v < last; ++v)
    _mm512_mask_storeu_ps(scores + v * kLanes, ~partial_mask(end - v * kLanes), broadcast(kHidden));
  F32 top = broadcast(kHidden);
  for (int v = first; v < last; ++v) top = max(top, load(scores + v * kLanes));
  return reduce_max(top);
}

// Brings the records and sums of R queries to maxima of at least `tops`, all factors in one vector. Gives the maxima.
template <int R>
static inline F32 raise_maxima(const float (&tops)[kLanes], float* records, int64_t padded_dim, float* sums) {
  const int64_t record_floats = padded_dim + 16;
  float before[kLanes] = {}, factors[kLanes], after[kLanes];
  for (int r = 0; r < R; ++r) before[r] = records[r * record_floats + padded_dim];
  const F32 old = load(before), higher = max(load(tops), old);
  store(factors, exp2(sub(old, higher)));
  store(after, higher);
  for (uint32_t rest = lanes_greater(higher, old); rest != 0; rest &= rest - 1) {
    const int r = __builtin_ctz(rest);
    const F32 factor = broadcast(factors[r]);
    float* record = records + r * record_floats;
    record[padded_dim] = after[r];
    store(sums + r * 16, mul(load(sums + r * 16), factor));
    for (int64_t d = 0; d < padded_dim; d += kLanes) store(record + d, mul(load(record + d), factor));
  }
  return higher;
}

// Turns a query's scores in vectors [first, last) into weights and adds them to the sums. What is hidden gets exactly 0.
static inline void weigh_scores(const float* scores, int first, int last, float maximum, float* sums,
                                uint16_t* weights) {
  const F32 top = broadcast(maximum);
  F32 sum = load(sums);
  for (int v = first; v < last; ++v) {
    const F32 weight = exp2_of_bf16(sub(load(scores + v * kLanes), top));
    sum = add(sum, weight);
    store_bf16(weights + v * kLanes, weight);
  }
  store(sums, sum);
}

// Softens the scores of queries [first, first + R) in vectors [begin, end). A query that has seen nothing yet, of which
// all scores are hidden, has weights of 0.
template <int R>
static void soften_tile(const AttentionTile& tile, const PairSpace& space, int begin, int end, int64_t base,
                        int64_t first, float* records) {
  const int64_t padded = attention_padded_dim(tile.head_dim);
  float* sums = space.sums + first * 16;
  float tops[kLanes] = {};
  int64_t row = first / tile.group, head = first - row * tile.group;
  for (int r = 0; r < R; ++r) {
    tops[r] = hide_and_find_top(space.scores + r * kStretchTokens, begin, end,
                                static_cast<int>(first_token(tile, row, base)),
                                static_cast<int>(end_token(tile, row, base, kStretchTokens)));
    if (++head == tile.group) head = 0, ++row;
  }
  float maxima[kLanes];
  store(maxima, raise_maxima<R>(tops, records + first * attention_record_floats(tile.head_dim), padded, sums));
  for (int r = 0; r < R; ++r) {
    uint16_t* weights = space.weights + r * kStretchTokens;
    if (maxima[r] == kHidden) {
      memset(weights + begin * kLanes, 0, (end - begin) * kLanes * sizeof(uint16_t));
    } else {
      weigh_scores(space.scores + r * kStretchTokens, begin, end, maxima[r], sums + r * 16, weights);
    }
  }
}

// Queries [first, first + R) of the tile: a register tile, of which any row may see tokens of the stretch from `base`.
template <int R>
static void attend_pairs_tile(const AttentionTile& tile, const PairSpace& space, const Stretch& stretch, int64_t base,
                              int64_t first, float* records) {
  const int64_t record_floats = attention_record_floats(tile.head_dim);
  const int begin = static_cast<int>(first_token(tile, first / tile.group, base));
  const int end = static_cast<int>(end_token(tile, (first + R - 1) / tile.group, base, kStretchTokens));
  if (begin >= end) return;
  const int begin_vector = begin / kLanes, end_vector = (end + kLanes - 1) / kLanes;
  score_vectors<R>(stretch, begin_vector, end_vector, space.queries + first * feature_pairs(tile), feature_pairs(tile),
                   space.scores);
  soften_tile<R>(tile, space, begin_vector, end_vector, base, first, records);
  value_rows_of_pairs<R>(stretch, tile.head_dim, begin / 2, (end + 1) / 2,
                         reinterpret_cast<const int32_t*>(space.weights), records + first * record_floats,
                         record_floats);
}

template <int R>
static void attend_pairs_rows(int rows, const AttentionTile& tile, const PairSpace& space, const Stretch& stretch,
                              int64_t base, int64_t first, float* records) {
  if (rows == R) return attend_pairs_tile<R>(tile, space, stretch, base, first, records);
  if constexpr (R > 1) attend_pairs_rows<R - 1>(rows, tile, space, stretch, base, first, records);
}

// The block to ask for while `block`, of number `number` in its stretch, is read: of the next stretch, or of the tile
// that comes after this one.
static inline int32_t block_after(const AttentionTile& tile, int64_t block, int64_t number, int64_t end_block) {
  if (block + kStretchBlocks < end_block) return tile.block_table[block + kStretchBlocks];
  return number < tile.num_blocks_ahead ? tile.blocks_ahead[number] : tile.block_table[block];
}

// Blocks [begin, end) of the stretch that begins with block `first`; after them those from `end` on are read, if
// they are below `end_block`.
static inline Stretch stretch_of(const AttentionTile& tile, int64_t first, int64_t begin, int64_t end,
                                 int64_t end_block) {
  Stretch stretch = {};
  stretch.tokens = static_cast<int>(end_token(tile, tile.num_rows - 1, first * kTokens, kStretchTokens));
  stretch.values_offset_bytes = tile.values_offset_bytes;
  for (int64_t block = begin; block < end; ++block) {
    const char* data = tile.keys + tile.block_table[block] * tile.block_bytes;
    stretch.next[block - first] = tile.keys + block_after(tile, block, block - first, end_block) * tile.block_bytes;
    stretch.keys[block - first] = reinterpret_cast<const int32_t*>(data);
    stretch.values[block - first] = reinterpret_cast<const int32_t*>(data + tile.values_offset_bytes);
  }
  return stretch;
}

// A register tile passes through all stretches while its records lie in the first cache; keys and values come from the
// second one for each register tile but the first.
static void attend_pairs(const AttentionTile& tile, int64_t first_block, int64_t end_block, float* records) {
  const PairSpace space = pair_space_of(tile);
  const int64_t queries = num_queries(tile), per_tile = rows_per_register_tile(queries);
  const int64_t record_floats = attention_record_floats(tile.head_dim);
  for (int64_t query = 0; query < queries; query += per_tile) {
    const int64_t rows = queries - query < per_tile ? queries - query : per_tile;
    start_records(rows, tile.head_dim, records + query * record_floats, space.sums + query * 16);
    for (int64_t first = first_block / kStretchBlocks * kStretchBlocks; first < end_block; first += kStretchBlocks) {
      const int64_t begin = first < first_block ? first_block : first;
      const int64_t end = first + kStretchBlocks < end_block ? first + kStretchBlocks : end_block;
      const Stretch stretch = stretch_of(tile, first, begin, end, end_block);
      attend_pairs_rows<kMaxTileRows>(static_cast<int>(rows), tile, space, stretch, first * kTokens, query, records);
    }
    end_records(rows, tile.head_dim, records + query * record_floats, space.sums + query * 16);
  }
}

}  // namespace weft::kernels::WEFT_KERNELS
