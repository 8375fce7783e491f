// Attention with an online softmax over blocks of tokens, and its gradient with the weights made again from
// log_sum_exp (Dao et al., 2022). All sums run in an order that the positions in the sequence alone decide.
#include "kernels/sequence_attention.h"

#include <math.h>
#include <string.h>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/sequence_blocks.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr float kHidden = -1e30f;  // below any score; 2^(kHidden - maximum) is exactly 0
constexpr float kLog2E = 1.44269504088896341f, kLn2 = 0.69314718055994531f;

int64_t padded_rows(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows * kBlockRows; }

// ---- forward

struct ForwardSpace {
  int64_t rows, padded;
  float *queries, *values_sum, *maxima, *sums, *keys, *values, *scores;

  ForwardSpace(float* memory, int64_t num_rows, int64_t group, int64_t head_dim)
      : rows(padded_rows(num_rows)), padded(padded_dim(head_dim)) {
    queries = memory;
    values_sum = queries + group * rows * padded;
    sums = values_sum + group * rows * padded;
    keys = sums + group * rows * 16;
    values = keys + kBlockTokens * padded;
    scores = values + kBlockTokens * padded;
    maxima = scores + kBlockRows * kBlockTokens;
  }
};

int64_t forward_floats(int64_t num_rows, int64_t group, int64_t head_dim) {
  const int64_t rows = padded_rows(num_rows), padded = padded_dim(head_dim);
  return group * rows * (2 * padded + 17) + kBlockTokens * (2 * padded + kBlockRows) + 16;
}

// The running state of one query.
struct QueryState {
  float* values;
  float* sum;  // by lane
  float* maximum;
};

// Turns the scores of a query in [from, to), of which [begin, end) are visible, into weights, and brings the
// query's state to the new maximum.
inline void soften(float* scores, int64_t from, int64_t to, int64_t begin, int64_t end, const QueryState& query,
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
    store(scores + t, weight);
    sum = add(sum, weight);
  }
  store(query.sum, sum);
}

void soften_block(const Block& block, float* scores, const QueryState& first, int64_t padded) {
  for (int64_t row = 0; row < block.num_rows; ++row) {
    const int64_t tile = row / kTileQueries * kTileQueries;
    const int64_t from = panel_floor(block.begin_token(tile));
    const int64_t to = panel_ceiling(block.end_token(tile + kTileQueries - 1));
    const int64_t begin = block.begin_token(row), end = block.end_token(row);
    float* of_row = scores + row * kBlockTokens;
    if (begin < end) {
      soften(of_row, from, to, begin, end, {first.values + row * padded, first.sum + row * 16, first.maximum + row}, padded);
    } else {
      for (int64_t t = from; t < to; ++t) of_row[t] = 0.0f;
    }
  }
}

void attend_block(const SequenceHeads& heads, const ForwardSpace& space, int64_t first_row, int64_t end_row,
                  int64_t first_token, int64_t end_token) {
  const int64_t tokens = end_token - first_token;
  pack_transposed(heads.k + first_token * heads.k_stride, heads.k_stride, tokens, heads.head_dim, space.keys);
  pack_rows_scaled(heads.v + first_token * heads.v_stride, heads.v_stride, tokens, heads.head_dim, 1.0f, space.values);
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_row; row < end_row; row += kBlockRows) {
      const Block block = {row, least(kBlockRows, end_row - row), first_token, tokens, heads.window};
      if (block.end_token(block.num_rows - 1) <= block.begin_token(0)) continue;
      const int64_t index = head * space.rows + row - first_row;
      block_scores(block, space.queries + index * space.padded, space.keys, heads.head_dim, space.scores);
      float* values = space.values_sum + index * space.padded;
      soften_block(block, space.scores, {values, space.sums + index * 16, space.maxima + index}, space.padded);
      block_rows(block, space.scores, space.values, space.padded, values, true);
    }
  }
}

void start_forward(const SequenceHeads& heads, const ForwardSpace& space, int64_t first_row, int64_t rows) {
  for (int64_t head = 0; head < heads.group; ++head) {
    pack_rows_scaled(heads.q + first_row * heads.q_stride + head * heads.head_dim, heads.q_stride, rows, heads.head_dim,
                     heads.scale * kLog2E, space.queries + head * space.rows * space.padded);
  }
  const int64_t queries = heads.group * space.rows;
  memset(space.values_sum, 0, static_cast<size_t>(queries * space.padded) * sizeof(float));
  memset(space.sums, 0, static_cast<size_t>(queries) * 16 * sizeof(float));
  for (int64_t query = 0; query < queries; ++query) space.maxima[query] = kHidden;
}

void forward(const SequenceHeads& heads, int64_t first_row, int64_t end_row, float* out, int64_t out_stride,
             float* log_sum_exp, int64_t log_sum_exp_stride, float* workspace) {
  const ForwardSpace space(workspace, end_row - first_row, heads.group, heads.head_dim);
  start_forward(heads, space, first_row, end_row - first_row);
  const int64_t first_seen = heads.window > 0 ? most(0, first_row - heads.window + 1) : 0;
  for (int64_t token = first_seen / kBlockTokens * kBlockTokens; token < end_row; token += kBlockTokens)
    attend_block(heads, space, first_row, end_row, token, least(end_row, token + kBlockTokens));
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_row; row < end_row; ++row) {
      const int64_t index = head * space.rows + row - first_row;
      const float sum = reduce_add(load(space.sums + index * 16));
      const float* values = space.values_sum + index * space.padded;
      float* to = out + row * out_stride + head * heads.head_dim;
      const F32 inverse = broadcast(1.0f / sum);
      each_vector(heads.head_dim, [&](int64_t d, auto vector) { vector.store(to + d, mul(load(values + d), inverse)); });
      log_sum_exp[row * log_sum_exp_stride + head] = space.maxima[index] * kLn2 + logf(sum);
    }
  }
}

// ---- backward

struct BackwardSpace {
  int64_t padded;
  float *keys, *transposed_keys, *transposed_values, *d_keys, *d_values;
  float *queries, *d_out, *d_queries, *weights, *d_scores, *log_sums, *products;

  BackwardSpace(float* memory, int64_t head_dim) : padded(padded_dim(head_dim)) {
    const auto take = [&memory](int64_t floats) {
      float* begin = memory;
      memory += floats;
      return begin;
    };
    keys = take(kBlockTokens * padded);
    transposed_keys = take(kBlockTokens * padded);
    transposed_values = take(kBlockTokens * padded);
    d_keys = take(kPaddedTokens * padded);
    d_values = take(kPaddedTokens * padded);
    queries = take(kBlockRows * padded);
    d_out = take(kBlockRows * padded);
    d_queries = take(kBlockRows * padded);
    weights = take(kBlockRows * kBlockTokens + kPaddedTokens);
    d_scores = take(kBlockRows * kBlockTokens + kPaddedTokens);
    log_sums = take(kBlockRows);
    products = take(kBlockRows);
  }
};

int64_t backward_floats(int64_t head_dim) {
  return padded_dim(head_dim) * (3 * kBlockTokens + 2 * kPaddedTokens + 3 * kBlockRows) +
         2 * (kBlockRows * kBlockTokens + kPaddedTokens) + 2 * kBlockRows;
}

// The rows' queries and gradients, log_sum_exp / log(2), and scale * (d_out . out).
void pack_block_rows(const SequenceHeads& heads, const SequenceGradients& gradients, const BackwardSpace& space,
                     const Block& block, int64_t head) {
  const int64_t column = head * heads.head_dim;
  const float* d_out = gradients.d_out + block.first_row * gradients.d_out_stride + column;
  const float* out = gradients.out + block.first_row * gradients.out_stride + column;
  pack_rows_scaled(heads.q + block.first_row * heads.q_stride + column, heads.q_stride, block.num_rows, heads.head_dim,
                   1.0f, space.queries);
  pack_rows_scaled(d_out, gradients.d_out_stride, block.num_rows, heads.head_dim, 1.0f, space.d_out);
  for (int64_t row = 0; row < block.num_rows; ++row) {
    F32 sum = zero();
    each_vector(heads.head_dim, [&](int64_t d, auto vector) {
      sum = fma(vector.load(out + row * gradients.out_stride + d), load(space.d_out + row * space.padded + d), sum);
    });
    space.products[row] = heads.scale * reduce_add(sum);
    space.log_sums[row] =
        kLog2E * gradients.log_sum_exp[(block.first_row + row) * gradients.log_sum_exp_stride + head];
  }
}

// Scores become weights p, and d_out . v becomes p * (scale * d_out . v - product); both 0 where nothing is seen.
void soften_gradients(const Block& block, const BackwardSpace& space, float scale) {
  const F32 factor = broadcast(scale * kLog2E), slope = broadcast(scale);
  const bool is_whole = block.is_whole();
  for (int64_t row = 0; row < block.num_rows; ++row) {
    float* weights = space.weights + row * kBlockTokens;
    float* d_scores = space.d_scores + row * kBlockTokens;
    const int64_t begin = block.begin_token(row), end = block.end_token(row);
    const F32 log_sum = broadcast(-space.log_sums[row]), product = broadcast(-space.products[row]);
    for (int64_t t = begin / kLanes * kLanes; t < end; t += kLanes) {
      const F32 weight = exp2(fma(load(weights + t), factor, log_sum));
      store(weights + t, weight);
      store(d_scores + t, mul(weight, fma(load(d_scores + t), slope, product)));
    }
    if (is_whole) continue;
    for (int64_t t = 0; t < begin; ++t) weights[t] = d_scores[t] = 0.0f;
    for (int64_t t = end; t < block.num_tokens; ++t) weights[t] = d_scores[t] = 0.0f;
  }
}

void add_d_queries(const SequenceHeads& heads, const SequenceGradients& gradients, const BackwardSpace& space,
                   const Block& block, int64_t head, int64_t first_row) {
  float* to = gradients.d_q + (block.first_row - first_row) * gradients.d_q_stride + head * heads.head_dim;
  const float* from = space.d_queries;
  for (int64_t row = 0; row < block.num_rows; ++row, to += gradients.d_q_stride, from += space.padded) {
    each_vector(heads.head_dim, [&](int64_t d, auto vector) {
      vector.store(to + d, add(vector.load(to + d), load(from + d)));
    });
  }
}

// All rows that see a block of tokens, head after head.
void backward_block(const SequenceHeads& heads, const SequenceGradients& gradients, const BackwardSpace& space,
                    int64_t first_row, int64_t first_token, int64_t tokens) {
  const float* keys = heads.k + first_token * heads.k_stride;
  pack_rows_scaled(keys, heads.k_stride, tokens, heads.head_dim, 1.0f, space.keys);
  pack_transposed(keys, heads.k_stride, tokens, heads.head_dim, space.transposed_keys);
  pack_transposed(heads.v + first_token * heads.v_stride, heads.v_stride, tokens, heads.head_dim, space.transposed_values);
  memset(space.d_keys, 0, static_cast<size_t>(2 * kPaddedTokens * space.padded) * sizeof(float));
  const int64_t seen = heads.window > 0 ? first_token + tokens - 1 + heads.window : heads.num_rows;
  const int64_t end_row = least(heads.num_rows, seen);
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_token; row < end_row; row += kBlockRows) {
      const Block block = {row, least(kBlockRows, end_row - row), first_token, tokens, heads.window};
      pack_block_rows(heads, gradients, space, block, head);
      block_scores(block, space.queries, space.transposed_keys, heads.head_dim, space.weights);
      block_scores(block, space.d_out, space.transposed_values, heads.head_dim, space.d_scores);
      soften_gradients(block, space, heads.scale);
      block_tokens(block, space.weights, space.d_out, space.padded, space.d_values);
      block_tokens(block, space.d_scores, space.queries, space.padded, space.d_keys);
      block_rows(block, space.d_scores, space.keys, space.padded, space.d_queries, false);
      add_d_queries(heads, gradients, space, block, head, first_row);
    }
  }
}

void backward(const SequenceHeads& heads, const SequenceGradients& gradients, int64_t first_token, int64_t end_token,
              float* workspace) {
  const BackwardSpace space(workspace, heads.head_dim);
  for (int64_t token = first_token; token < end_token; token += kBlockTokens) {
    const int64_t tokens = least(kBlockTokens, end_token - token);
    backward_block(heads, gradients, space, first_token, token, tokens);
    for (int64_t t = 0; t < tokens; ++t) {
      const float *d_key = space.d_keys + t * space.padded, *d_value = space.d_values + t * space.padded;
      float* to_key = gradients.d_k + (token + t) * gradients.d_k_stride;
      float* to_value = gradients.d_v + (token + t) * gradients.d_v_stride;
      each_vector(heads.head_dim, [&](int64_t d, auto vector) {
        vector.store(to_key + d, load(d_key + d));
        vector.store(to_value + d, load(d_value + d));
      });
    }
  }
}

}  // namespace

const SequenceAttentionKernels kSequenceAttention = {forward_floats, backward_floats, forward, backward};

}  // namespace weft::kernels::WEFT_KERNELS
