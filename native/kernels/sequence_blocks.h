// Blocks of queries and tokens, their packing, and the one register tile that all products of sequence attention
// are made of. Included by sequence_attention kernels only, after kernels/simd.h.
#pragma once

#include "kernels/vectors.h"

namespace weft::kernels::WEFT_KERNELS {

#if defined(WEFT_KERNELS_AVX512)
constexpr int kTileQueries = 12;  // 12 x 2 accumulators of 32 registers
#else
constexpr int kTileQueries = 6;   // 6 x 2 of 16
#endif
constexpr int64_t kPanel = 2 * kLanes;    // columns of a register tile
constexpr int64_t kBlockRows = 48;        // queries of a block: whole tiles
constexpr int64_t kBlockTokens = 64;      // tokens of a block: whole panels
constexpr int64_t kPaddedTokens = 72;     // whole tiles, where tokens are a tile's rows

static inline int64_t padded_dim(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline int64_t panel_floor(int64_t column) { return column / kPanel * kPanel; }
static inline int64_t panel_ceiling(int64_t column) { return (column + kPanel - 1) / kPanel * kPanel; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// out[r][c] (+)= sum over i ascending of scalars[r * row + i * step] * vectors[i * stride + c], for kTileQueries
// rows and V vectors of columns.
template <int V>
static inline void product_tile(const float* scalars, int64_t row, int64_t step, const float* vectors, int64_t stride,
                                int64_t count, float* out, int64_t out_stride, bool accumulates) {
  constexpr int R = kTileQueries;
  F32 sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[r][v] = accumulates ? load(out + r * out_stride + v * kLanes) : zero();
  for (int64_t i = 0; i < count; ++i, scalars += step, vectors += stride) {
    F32 vector[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) vector[v] = load(vectors + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32 scalar = broadcast(scalars[r * row]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = fma(scalar, vector[v], sums[r][v]);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
}

// The same for all `columns`, a multiple of kLanes.
static inline void product_columns(const float* scalars, int64_t row, int64_t step, const float* vectors,
                                   int64_t columns, int64_t count, float* out, bool accumulates) {
  int64_t column = 0;
  for (; column + kPanel <= columns; column += kPanel)
    product_tile<2>(scalars, row, step, vectors + column, columns, count, out + column, columns, accumulates);
  for (; column < columns; column += kLanes)
    product_tile<1>(scalars, row, step, vectors + column, columns, count, out + column, columns, accumulates);
}

// to[r][d] = from[r][d] * scale, zeros from head_dim to the padded one.
static inline void pack_rows_scaled(const float* from, int64_t stride, int64_t rows, int64_t head_dim, float scale,
                                    float* to) {
  const int64_t padded = padded_dim(head_dim);
  const F32 factor = broadcast(scale);
  for (int64_t r = 0; r < rows; ++r, from += stride, to += padded) {
    for (int64_t d = head_dim / kLanes * kLanes; d < padded; ++d) to[d] = 0.0f;
    each_vector(head_dim, [&](int64_t d, auto vector) { vector.store(to + d, mul(vector.load(from + d), factor)); });
  }
}

// to[panel][d][token] = from[token][d]: tokens in lanes.
static inline void pack_transposed(const float* from, int64_t stride, int64_t tokens, int64_t head_dim, float* to) {
  const int64_t panel_floats = padded_dim(head_dim) * kPanel;
  for (int64_t t = 0; t < tokens; ++t) {
    float* column = to + t / kPanel * panel_floats + t % kPanel;
    const float* row = from + t * stride;
    for (int64_t d = 0; d < head_dim; ++d) column[d * kPanel] = row[d];
  }
}

// A block of rows [first_row, + num_rows) against a block of tokens [first_token, + num_tokens), of a sequence.
struct Block {
  int64_t first_row, num_rows, first_token, num_tokens, window;

  // Tokens of the block that rows from `row` to `last_row` (of the block) see, all of them together.
  int64_t end_token(int64_t last_row) const {
    const int64_t last = least(last_row, num_rows - 1);
    return most(0, least(num_tokens, first_row + last + 1 - first_token));
  }
  int64_t begin_token(int64_t row) const {
    return window > 0 ? least(num_tokens, most(0, first_row + row - window + 1 - first_token)) : 0;
  }
  // Rows of the block that see any of the tokens `token` to `last_token` of the block.
  int64_t begin_row(int64_t token) const { return most(0, first_token + token - first_row); }
  int64_t end_row(int64_t last_token) const {
    return window > 0 ? least(num_rows, first_token + last_token + window - first_row) : num_rows;
  }
  bool is_whole() const {  // every row sees every token
    return end_token(0) == num_tokens && begin_token(num_rows - 1) == 0;
  }
};

// scores[r][t] = rows[r] . tokens[t] for the panels that a tile of rows sees; scores are kBlockTokens apart.
static inline void block_scores(const Block& block, const float* rows, const float* transposed, int64_t head_dim,
                                float* scores) {
  const int64_t padded = padded_dim(head_dim);
  for (int64_t column = 0; column < block.num_tokens; column += kPanel) {
    for (int64_t row = 0; row < block.num_rows; row += kTileQueries) {
      if (column >= block.end_token(row + kTileQueries - 1) || column + kPanel <= block.begin_token(row)) continue;
      product_tile<2>(rows + row * padded, padded, 1, transposed + column * padded, kPanel, head_dim,
                      scores + row * kBlockTokens + column, kBlockTokens, false);
    }
  }
}

// out[r] (+)= sum over the tokens that r sees of weights[r][t] * tokens[t]; rows are padded_dim apart.
static inline void block_rows(const Block& block, const float* weights, const float* tokens, int64_t padded, float* out,
                              bool accumulates) {
  for (int64_t row = 0; row < block.num_rows; row += kTileQueries) {
    const int64_t begin = block.begin_token(row), end = block.end_token(row + kTileQueries - 1);
    product_columns(weights + row * kBlockTokens + begin, kBlockTokens, 1, tokens + begin * padded, padded,
                    most(0, end - begin), out + row * padded, accumulates);
  }
}

// out[t] += sum over the rows that see t, ascending, of weights[r][t] * rows[r].
static inline void block_tokens(const Block& block, const float* weights, const float* rows, int64_t padded, float* out) {
  for (int64_t token = 0; token < block.num_tokens; token += kTileQueries) {
    const int64_t begin = block.begin_row(token), end = block.end_row(token + kTileQueries - 1);
    if (begin >= end) continue;
    product_columns(weights + begin * kBlockTokens + token, 1, kBlockTokens, rows + begin * padded, padded, end - begin,
                    out + token * padded, true);
  }
}

}  // namespace weft::kernels::WEFT_KERNELS
