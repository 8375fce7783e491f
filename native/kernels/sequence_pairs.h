// Sequence attention whose products are dots of bfloat16 pairs, sums float32: the blocks and the order of the float32
// form. A sum over features or tokens takes pairs of neighbours, which begin at even ones of the sequence. Included by
// sequence_attention.cc on AVX-512 only, after kernels/pairs_avx512.h.
#pragma once

#include <type_traits>

namespace weft::kernels::WEFT_KERNELS {

constexpr int64_t kRowWords = kBlockTokens / 2;  // of a row of weights

static inline int64_t row_words(int64_t head_dim) { return padded_dim(head_dim) / 2; }

// Two vectors as bfloat16, to nearest even, those of `low` in the lower half.
static inline I32 halves_of(F32 low, F32 high) {
#if defined(WEFT_EMULATE_AVX512)
  uint16_t halves[32];
  store_bf16(halves, low);
  store_bf16(halves + 16, high);
  return _mm512_loadu_si512(halves);
#else
  return reinterpret_cast<I32>(_mm512_cvtne2ps_pbh(high, low));
#endif
}

// One word a lane: the lower half's in the lower bits, the upper half's in the upper ones.
static inline I32 pair_words(I32 halves) {
  const I32 alternating = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8,  //
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(alternating, halves);
}

// The lower half to `low`, the upper one to `high`.
static inline void store_halves(int32_t* low, int32_t* high, I32 halves) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(low), _mm512_castsi512_si256(halves));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(high), _mm512_extracti64x4_epi64(halves, 1));
}

// out[r][c] (+)= sum over i ascending of scalars[r * row + i * step] . vectors[i * stride + c], for kTileQueries rows
// and V vectors of columns. Row: a number, or std::integral_constant.
template <int V, class Row>
static inline void pair_tile(const int32_t* scalars, Row row, int64_t step, const int32_t* vectors, int64_t stride,
                             int64_t count, float* out, int64_t out_stride, bool accumulates) {
  constexpr int R = kTileQueries;
  F32 sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[r][v] = accumulates ? load(out + r * out_stride + v * kLanes) : zero();
#pragma GCC unroll 1
  for (int64_t i = 0; i < count; ++i, scalars += step, vectors += stride) {
    F32 words[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) words[v] = load_words(vectors + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32 scalar = broadcast_word(scalars + r * row);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = dot_pairs(sums[r][v], scalar, words[v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
}

// The same for all `columns`, a multiple of kLanes.
template <class Row>
static inline void pair_columns(const int32_t* scalars, Row row, int64_t step, const int32_t* vectors, int64_t columns,
                                int64_t count, float* out, bool accumulates) {
  int64_t column = 0;
  for (; column + kPanel <= columns; column += kPanel)
    pair_tile<2>(scalars, row, step, vectors + column, columns, count, out + column, columns, accumulates);
  for (; column < columns; column += kLanes)
    pair_tile<1>(scalars, row, step, vectors + column, columns, count, out + column, columns, accumulates);
}

// to[r][d / 2] = pairs of from[r][d] * scale, zeros from head_dim to the padded one.
static inline void pack_feature_pairs(const float* from, int64_t stride, int64_t rows, int64_t head_dim, float scale,
                                      int32_t* to) {
  const F32 factor = broadcast(scale);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += row_words(head_dim))
    for (int64_t d = 0; d < padded_dim(head_dim); d += kLanes)
      store_bf16(reinterpret_cast<uint16_t*>(to) + d, mul(load_partial(from + d, head_dim - d), factor));
}

// to[r / 2][d] = (from[r][d], from[r + 1][d]); zeros beyond the last row and feature.
static inline void pack_row_pairs(const float* from, int64_t stride, int64_t rows, int64_t head_dim, int32_t* to) {
  for (int64_t r = 0; r < rows; r += 2, from += 2 * stride, to += padded_dim(head_dim)) {
    for (int64_t d = 0; d < padded_dim(head_dim); d += kLanes) {
      const F32 odd = r + 1 < rows ? load_partial(from + stride + d, head_dim - d) : zero();
      _mm512_storeu_si512(to + d, pair_words(halves_of(load_partial(from + d, head_dim - d), odd)));
    }
  }
}

// `by_row` as pack_feature_pairs has it, with a row to spare where `rows` is odd; `by_pair` as pack_row_pairs has it.
static inline void pack_both_pairs(const float* from, int64_t stride, int64_t rows, int64_t head_dim, int32_t* by_row,
                                   int32_t* by_pair) {
  const int64_t words = row_words(head_dim);
  for (int64_t r = 0; r < rows; r += 2, from += 2 * stride, by_row += 2 * words, by_pair += padded_dim(head_dim)) {
    for (int64_t d = 0; d < padded_dim(head_dim); d += kLanes) {
      const F32 odd = r + 1 < rows ? load_partial(from + stride + d, head_dim - d) : zero();
      const I32 halves = halves_of(load_partial(from + d, head_dim - d), odd);
      store_halves(by_row + d / 2, by_row + words + d / 2, halves);
      _mm512_storeu_si512(by_pair + d, pair_words(halves));
    }
  }
}

// to[panel][d / 2][token]: pairs of features, tokens in lanes. `pairs`: room for the tokens' own.
static inline void pack_token_lanes(const float* from, int64_t stride, int64_t tokens, int64_t head_dim, int32_t* pairs,
                                    int32_t* to) {
  const int64_t words = row_words(head_dim);
  pack_feature_pairs(from, stride, tokens, head_dim, 1.0f, pairs);
  for (int64_t t = 0; t < tokens; ++t, pairs += words) {
    int32_t* column = to + t / kPanel * words * kPanel + t % kPanel;
    for (int64_t i = 0; i < words; ++i) column[i * kPanel] = pairs[i];
  }
}

// block_scores, block_rows and block_tokens of sequence_blocks.h. A weight that a row does not see is 0.
static inline void pair_scores(const Block& block, const int32_t* rows, const int32_t* lanes, int64_t head_dim,
                               float* scores) {
  const int64_t words = row_words(head_dim);
  for (int64_t column = 0; column < block.num_tokens; column += kPanel) {
    for (int64_t row = 0; row < block.num_rows; row += kTileQueries) {
      if (column >= block.end_token(row + kTileQueries - 1) || column + kPanel <= block.begin_token(row)) continue;
      pair_tile<2>(rows + row * words, words, 1, lanes + column * words, kPanel, (head_dim + 1) / 2,
                   scores + row * kBlockTokens + column, kBlockTokens, false);
    }
  }
}

static inline void pair_rows(const Block& block, const int32_t* weights, const int32_t* tokens, int64_t padded,
                             float* out, bool accumulates) {
  constexpr std::integral_constant<int64_t, kRowWords> kRow;
  for (int64_t row = 0; row < block.num_rows; row += kTileQueries) {
    const int64_t begin = block.begin_token(row) / 2, end = (block.end_token(row + kTileQueries - 1) + 1) / 2;
    pair_columns(weights + row * kRowWords + begin, kRow, 1, tokens + begin * padded, padded, most(0, end - begin),
                 out + row * padded, accumulates);
  }
}

static inline void pair_tokens(const Block& block, const int32_t* weights, const int32_t* rows, int64_t padded,
                               float* out) {
  constexpr std::integral_constant<int64_t, 1> kRow;
  for (int64_t token = 0; token < block.num_tokens; token += kTileQueries) {
    const int64_t begin = block.begin_row(token) / 2, end = (block.end_row(token + kTileQueries - 1) + 1) / 2;
    if (begin >= end) continue;
    pair_columns(weights + begin * kBlockTokens + token, kRow, kBlockTokens, rows + begin * padded, padded, end - begin,
                 out + token * padded, true);
  }
}

// ---- forward

struct ForwardPairs {
  ForwardPairs(float* memory, int64_t num_rows, int64_t group, int64_t head_dim)
      : rows(padded_rows(num_rows)), padded(padded_dim(head_dim)), end(memory) {
    state.values = take(group * rows * padded);
    state.sums = take(group * rows * 16);
    scores = take(kBlockRows * kBlockTokens);
    queries = take_words(group * rows * padded / 2);
    keys = take_words(kBlockTokens * padded / 2);
    values = take_words(kBlockTokens * padded / 2);
    token_pairs = take_words(kBlockTokens * padded / 2);
    weights = take_words(kBlockRows * kRowWords);
    state.maxima = take((group * rows + 15) / 16 * 16);
  }
  float* take(int64_t floats) { return (end += floats) - floats; }
  int32_t* take_words(int64_t words) { return reinterpret_cast<int32_t*>(take(words)); }

  int64_t rows, padded;
  float* end;
  ForwardState state;
  float* scores;
  int32_t *queries, *keys, *values, *token_pairs, *weights;
};

static inline void attend_pairs(const SequenceHeads& heads, const ForwardPairs& space, int64_t first_row,
                                int64_t end_row, int64_t first_token, int64_t tokens) {
  pack_token_lanes(heads.k + first_token * heads.k_stride, heads.k_stride, tokens, heads.head_dim, space.token_pairs,
                   space.keys);
  pack_row_pairs(heads.v + first_token * heads.v_stride, heads.v_stride, tokens, heads.head_dim, space.values);
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_row; row < end_row; row += kBlockRows) {
      const Block block = {row, least(kBlockRows, end_row - row), first_token, tokens, heads.window};
      if (block.end_token(block.num_rows - 1) <= block.begin_token(0)) continue;
      const int64_t index = head * space.rows + row - first_row;
      pair_scores(block, space.queries + index * space.padded / 2, space.keys, heads.head_dim, space.scores);
      const QueryState first = space.state.at(index, space.padded);
      soften_block(block, space.scores, reinterpret_cast<uint16_t*>(space.weights), first, space.padded);
      pair_rows(block, space.weights, space.values, space.padded, first.values, true);
    }
  }
}

static inline ForwardState forward_pairs(const SequenceHeads& heads, int64_t first_row, int64_t end_row,
                                         float* workspace) {
  const ForwardPairs space(workspace, end_row - first_row, heads.group, heads.head_dim);
  for (int64_t head = 0; head < heads.group; ++head) {
    pack_feature_pairs(heads.q + first_row * heads.q_stride + head * heads.head_dim, heads.q_stride,
                       end_row - first_row, heads.head_dim, heads.scale * kLog2E,
                       space.queries + head * space.rows * space.padded / 2);
  }
  space.state.reset(heads.group * space.rows, space.padded);
  for (int64_t token = first_seen_block(heads, first_row); token < end_row; token += kBlockTokens)
    attend_pairs(heads, space, first_row, end_row, token, least(end_row - token, kBlockTokens));
  return space.state;
}

// ---- backward

constexpr int64_t kSpanBlocks = 2;  // blocks of tokens that take each packed row in turn
constexpr int64_t kSpanTokens = kSpanBlocks * kBlockTokens;

struct TokenPairs {
  int32_t *keys, *key_lanes, *value_lanes;
  BlockGradients gradients;
};

struct BackwardPairs {
  BackwardPairs(float* memory, int64_t head_dim) : padded(padded_dim(head_dim)), end(memory) {
    float* d_queries = take(kBlockRows * padded);
    for (TokenPairs& block : blocks) {
      block.gradients = {padded, take(kPaddedTokens * padded), take(kPaddedTokens * padded), d_queries};
      block.keys = take_words(kBlockTokens * padded / 2);
      block.key_lanes = take_words(kBlockTokens * padded / 2);
      block.value_lanes = take_words(kBlockTokens * padded / 2);
    }
    scores = take(kBlockRows * kBlockTokens);
    slopes = take(kBlockRows * kBlockTokens);
    token_pairs = take_words(kBlockTokens * padded / 2);
    queries = take_words(kBlockRows * padded / 2);
    query_pairs = take_words(kBlockRows * padded / 2);
    d_out = take_words(kBlockRows * padded / 2);
    d_out_pairs = take_words(kBlockRows * padded / 2);
    weight_pairs = take_words(kBlockRows * kRowWords + kPaddedTokens);
    d_score_pairs = take_words(kBlockRows * kRowWords + kPaddedTokens);
    d_scores = take_words(kBlockRows * kRowWords);
    log_sums = take(kBlockRows);
    products = take(kBlockRows);
  }
  float* take(int64_t floats) { return (end += floats) - floats; }
  int32_t* take_words(int64_t words) { return reinterpret_cast<int32_t*>(take(words)); }

  int64_t padded;
  float* end;
  TokenPairs blocks[kSpanBlocks];
  float *scores, *slopes, *log_sums, *products;
  int32_t* token_pairs;
  int32_t *queries, *query_pairs, *d_out, *d_out_pairs;  // by row, and pairs of rows
  int32_t *weight_pairs, *d_score_pairs, *d_scores;
};

static inline void pack_pair_rows(const SequenceHeads& heads, const SequenceGradients& gradients,
                                  const BackwardPairs& space, const Block& block, int64_t head) {
  const int64_t column = head * heads.head_dim, rows = block.num_rows;
  const float* q = heads.q + block.first_row * heads.q_stride + column;
  const float* d_out = gradients.d_out + block.first_row * gradients.d_out_stride + column;
  pack_both_pairs(q, heads.q_stride, rows, heads.head_dim, space.queries, space.query_pairs);
  pack_both_pairs(d_out, gradients.d_out_stride, rows, heads.head_dim, space.d_out, space.d_out_pairs);
  row_products(heads, gradients, block, head, space.log_sums, space.products);
}

// A vector of a row's scores as weights, and of d_out . v as gradients of the scores; 0 where the row sees nothing.
struct Softened {
  F32 weight, d_score;
};
static inline Softened soften_vector(const Block& block, const BackwardPairs& space, float scale, int64_t row,
                                     int64_t t) {
  if (row >= block.num_rows) return {zero(), zero()};
  const __mmask16 mask = static_cast<__mmask16>(partial_mask(block.end_token(row) - t) &
                                                ~partial_mask(block.begin_token(row) - t));
  const float *scores = space.scores + row * kBlockTokens + t, *slopes = space.slopes + row * kBlockTokens + t;
  const F32 weight = exp2_of_bf16(fma(load(scores), broadcast(scale * kLog2E), broadcast(-space.log_sums[row])));
  const F32 slope = fma(load(slopes), broadcast(scale), broadcast(-space.products[row]));
  return {_mm512_maskz_mov_ps(mask, weight), _mm512_maskz_mov_ps(mask, mul(weight, slope))};
}

static inline void soften_pair_gradients(const Block& block, const BackwardPairs& space, float scale) {
  for (int64_t row = 0; row < block.num_rows; row += 2) {
    for (int64_t t = 0; t < kBlockTokens; t += kLanes) {
      const Softened one = soften_vector(block, space, scale, row, t);
      const Softened other = soften_vector(block, space, scale, row + 1, t);
      const int64_t at = row / 2 * kBlockTokens + t;
      const I32 d_scores = halves_of(one.d_score, other.d_score);
      int32_t* of_row = space.d_scores + row * kRowWords + t / 2;
      _mm512_storeu_si512(space.weight_pairs + at, pair_words(halves_of(one.weight, other.weight)));
      _mm512_storeu_si512(space.d_score_pairs + at, pair_words(d_scores));
      store_halves(of_row, of_row + kRowWords, d_scores);
    }
  }
}

static inline void pack_pair_tokens(const SequenceHeads& heads, const BackwardPairs& space, const TokenPairs& block,
                                    int64_t first_token, int64_t tokens) {
  const float* keys = heads.k + first_token * heads.k_stride;
  const float* values = heads.v + first_token * heads.v_stride;
  pack_row_pairs(keys, heads.k_stride, tokens, heads.head_dim, block.keys);
  pack_token_lanes(keys, heads.k_stride, tokens, heads.head_dim, space.token_pairs, block.key_lanes);
  pack_token_lanes(values, heads.v_stride, tokens, heads.head_dim, space.token_pairs, block.value_lanes);
  block.gradients.reset();
}

// The packed rows against a block of tokens. The queries' gradients begin anew, or take more tokens.
static inline void add_pair_gradients(const SequenceHeads& heads, const BackwardPairs& space, const TokenPairs& tokens,
                                      const Block& block, bool adds_to_queries) {
  pair_scores(block, space.queries, tokens.key_lanes, heads.head_dim, space.scores);
  pair_scores(block, space.d_out, tokens.value_lanes, heads.head_dim, space.slopes);
  soften_pair_gradients(block, space, heads.scale);
  pair_tokens(block, space.weight_pairs, space.d_out_pairs, space.padded, tokens.gradients.d_values);
  pair_tokens(block, space.d_score_pairs, space.query_pairs, space.padded, tokens.gradients.d_keys);
  pair_rows(block, space.d_scores, tokens.keys, space.padded, tokens.gradients.d_queries, adds_to_queries);
}

// All rows that see a span of tokens, head after head.
static inline void backward_pairs(const SequenceHeads& heads, const SequenceGradients& gradients,
                                  const BackwardPairs& space, int64_t first_row, int64_t first_token, int64_t tokens) {
  const auto tokens_of = [&](int64_t at) { return least(kBlockTokens, tokens - at); };
  for (int64_t at = 0; at < tokens; at += kBlockTokens)
    pack_pair_tokens(heads, space, space.blocks[at / kBlockTokens], first_token + at, tokens_of(at));
  const int64_t end_row = end_of_readers(heads, first_token, tokens);
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_token; row < end_row; row += kBlockRows) {
      Block block = {row, least(kBlockRows, end_row - row), first_token, tokens, heads.window};
      pack_pair_rows(heads, gradients, space, block, head);
      bool adds_to_queries = false;
      for (int64_t at = 0; at < tokens; at += kBlockTokens) {
        block.first_token = first_token + at;
        block.num_tokens = tokens_of(at);
        if (block.end_token(block.num_rows - 1) <= block.begin_token(0)) continue;
        add_pair_gradients(heads, space, space.blocks[at / kBlockTokens], block, adds_to_queries);
        adds_to_queries = true;
      }
      if (adds_to_queries) add_d_queries(heads, gradients, space.blocks[0].gradients, block, head, first_row);
    }
  }
}

}  // namespace weft::kernels::WEFT_KERNELS
