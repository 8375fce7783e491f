// Attention with an online softmax over blocks of tokens, and its gradient with the weights made again from
// log_sum_exp (Dao et al., 2022). All sums run in an order that the positions in the sequence alone decide.
#include "kernels/sequence_attention.h"

#include <math.h>
#include <string.h>

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/sequence_blocks.h"
#include "kernels/sequence_state.h"
#if defined(WEFT_KERNELS_AVX512)
#include "kernels/pairs_avx512.h"

#include "kernels/sequence_pairs.h"
#endif

namespace weft::kernels::WEFT_KERNELS {

namespace {

// ---- forward

struct ForwardSpace {
  ForwardSpace(float* memory, int64_t num_rows, int64_t group, int64_t head_dim)
      : rows(padded_rows(num_rows)), padded(padded_dim(head_dim)), end(memory) {
    queries = take(group * rows * padded);
    state.values = take(group * rows * padded);
    state.sums = take(group * rows * 16);
    keys = take(kBlockTokens * padded);
    values = take(kBlockTokens * padded);
    scores = take(kBlockRows * kBlockTokens);
    state.maxima = take((group * rows + 15) / 16 * 16);
  }
  float* take(int64_t floats) { return (end += floats) - floats; }

  int64_t rows, padded;
  float* end;
  ForwardState state;
  float *queries, *keys, *values, *scores;
};

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
      const QueryState first = space.state.at(index, space.padded);
      soften_block(block, space.scores, space.scores, first, space.padded);
      block_rows(block, space.scores, space.values, space.padded, first.values, true);
    }
  }
}

ForwardState forward_blocks(const SequenceHeads& heads, int64_t first_row, int64_t end_row, float* workspace) {
  const ForwardSpace space(workspace, end_row - first_row, heads.group, heads.head_dim);
  for (int64_t head = 0; head < heads.group; ++head) {
    pack_rows_scaled(heads.q + first_row * heads.q_stride + head * heads.head_dim, heads.q_stride, end_row - first_row,
                     heads.head_dim, heads.scale * kLog2E, space.queries + head * space.rows * space.padded);
  }
  space.state.reset(heads.group * space.rows, space.padded);
  for (int64_t token = first_seen_block(heads, first_row); token < end_row; token += kBlockTokens)
    attend_block(heads, space, first_row, end_row, token, least(end_row, token + kBlockTokens));
  return space.state;
}

// ---- backward

struct BackwardSpace {
  BackwardSpace(float* memory, int64_t head_dim) : padded(padded_dim(head_dim)), end(memory) {
    gradients = {padded, take(kPaddedTokens * padded), take(kPaddedTokens * padded), take(kBlockRows * padded)};
    keys = take(kBlockTokens * padded);
    transposed_keys = take(kBlockTokens * padded);
    transposed_values = take(kBlockTokens * padded);
    queries = take(kBlockRows * padded);
    d_out = take(kBlockRows * padded);
    weights = take(kBlockRows * kBlockTokens + kPaddedTokens);
    d_scores = take(kBlockRows * kBlockTokens + kPaddedTokens);
    log_sums = take(kBlockRows);
    products = take(kBlockRows);
  }
  float* take(int64_t floats) { return (end += floats) - floats; }

  int64_t padded;
  float* end;
  BlockGradients gradients;
  float *keys, *transposed_keys, *transposed_values;
  float *queries, *d_out, *weights, *d_scores, *log_sums, *products;
};

// The rows' queries and gradients.
void pack_block_rows(const SequenceHeads& heads, const SequenceGradients& gradients, const BackwardSpace& space,
                     const Block& block, int64_t head) {
  const int64_t column = head * heads.head_dim;
  const float* d_out = gradients.d_out + block.first_row * gradients.d_out_stride + column;
  pack_rows_scaled(heads.q + block.first_row * heads.q_stride + column, heads.q_stride, block.num_rows, heads.head_dim,
                   1.0f, space.queries);
  pack_rows_scaled(d_out, gradients.d_out_stride, block.num_rows, heads.head_dim, 1.0f, space.d_out);
  row_products(heads, gradients, block, head, space.log_sums, space.products);
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

// All rows that see a block of tokens, head after head.
void backward_block(const SequenceHeads& heads, const SequenceGradients& gradients, const BackwardSpace& space,
                    int64_t first_row, int64_t first_token, int64_t tokens) {
  const float* keys = heads.k + first_token * heads.k_stride;
  pack_rows_scaled(keys, heads.k_stride, tokens, heads.head_dim, 1.0f, space.keys);
  pack_transposed(keys, heads.k_stride, tokens, heads.head_dim, space.transposed_keys);
  pack_transposed(heads.v + first_token * heads.v_stride, heads.v_stride, tokens, heads.head_dim, space.transposed_values);
  space.gradients.reset();
  const int64_t end_row = end_of_readers(heads, first_token, tokens);
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_token; row < end_row; row += kBlockRows) {
      const Block block = {row, least(kBlockRows, end_row - row), first_token, tokens, heads.window};
      pack_block_rows(heads, gradients, space, block, head);
      block_scores(block, space.queries, space.transposed_keys, heads.head_dim, space.weights);
      block_scores(block, space.d_out, space.transposed_values, heads.head_dim, space.d_scores);
      soften_gradients(block, space, heads.scale);
      block_tokens(block, space.weights, space.d_out, space.padded, space.gradients.d_values);
      block_tokens(block, space.d_scores, space.queries, space.padded, space.gradients.d_keys);
      block_rows(block, space.d_scores, space.keys, space.padded, space.gradients.d_queries, false);
      add_d_queries(heads, gradients, space.gradients, block, head, first_row);
    }
  }
}

// ---- either form

int64_t forward_floats(int64_t num_rows, int64_t group, int64_t head_dim) {
  float base = 0;
  int64_t floats = ForwardSpace(&base, num_rows, group, head_dim).end - &base;
#if defined(WEFT_KERNELS_AVX512)
  floats = most(floats, ForwardPairs(&base, num_rows, group, head_dim).end - &base);
#endif
  return floats;
}

int64_t backward_floats(int64_t head_dim) {
  float base = 0;
  int64_t floats = BackwardSpace(&base, head_dim).end - &base;
#if defined(WEFT_KERNELS_AVX512)
  floats = most(floats, BackwardPairs(&base, head_dim).end - &base);
#endif
  return floats;
}

ForwardState forward_state(const SequenceHeads& heads, int64_t first_row, int64_t end_row, float* workspace) {
#if defined(WEFT_KERNELS_AVX512)
  if (heads.rounds_to_bf16) return forward_pairs(heads, first_row, end_row, workspace);
#endif
  return forward_blocks(heads, first_row, end_row, workspace);
}

void forward(const SequenceHeads& heads, int64_t first_row, int64_t end_row, float* out, int64_t out_stride,
             float* log_sum_exp, int64_t log_sum_exp_stride, float* workspace) {
  const ForwardState state = forward_state(heads, first_row, end_row, workspace);
  const int64_t rows = padded_rows(end_row - first_row), padded = padded_dim(heads.head_dim);
  for (int64_t head = 0; head < heads.group; ++head) {
    for (int64_t row = first_row; row < end_row; ++row) {
      const QueryState query = state.at(head * rows + row - first_row, padded);
      const float sum = reduce_add(load(query.sum));
      float* to = out + row * out_stride + head * heads.head_dim;
      const F32 inverse = broadcast(1.0f / sum);
      each_vector(heads.head_dim, [&](int64_t d, auto vector) { vector.store(to + d, mul(load(query.values + d), inverse)); });
      log_sum_exp[row * log_sum_exp_stride + head] = *query.maximum * kLn2 + logf(sum);
    }
  }
}

// The keys' and values' gradients of a block, which are whole.
void write_tokens(const SequenceHeads& heads, const SequenceGradients& gradients, const BlockGradients& own,
                  int64_t first_token, int64_t tokens) {
  for (int64_t t = 0; t < tokens; ++t) {
    const float *d_key = own.d_keys + t * own.padded, *d_value = own.d_values + t * own.padded;
    float* to_key = gradients.d_k + (first_token + t) * gradients.d_k_stride;
    float* to_value = gradients.d_v + (first_token + t) * gradients.d_v_stride;
    each_vector(heads.head_dim, [&](int64_t d, auto vector) {
      vector.store(to_key + d, load(d_key + d));
      vector.store(to_value + d, load(d_value + d));
    });
  }
}

#if defined(WEFT_KERNELS_AVX512)
void backward_spans(const SequenceHeads& heads, const SequenceGradients& gradients, int64_t first_token,
                    int64_t end_token, float* workspace) {
  const BackwardPairs space(workspace, heads.head_dim);
  for (int64_t span = first_token; span < end_token; span += kSpanTokens) {
    const int64_t end = least(end_token, span + kSpanTokens);
    backward_pairs(heads, gradients, space, first_token, span, end - span);
    for (int64_t token = span; token < end; token += kBlockTokens) {
      const BlockGradients& own = space.blocks[(token - span) / kBlockTokens].gradients;
      write_tokens(heads, gradients, own, token, least(kBlockTokens, end - token));
    }
  }
}
#endif

void backward(const SequenceHeads& heads, const SequenceGradients& gradients, int64_t first_token, int64_t end_token,
              float* workspace) {
#if defined(WEFT_KERNELS_AVX512)
  if (heads.rounds_to_bf16) return backward_spans(heads, gradients, first_token, end_token, workspace);
#endif
  for (int64_t token = first_token; token < end_token; token += kBlockTokens) {
    const int64_t tokens = least(kBlockTokens, end_token - token);
    const BackwardSpace space(workspace, heads.head_dim);
    backward_block(heads, gradients, space, first_token, token, tokens);
    write_tokens(heads, gradients, space.gradients, token, tokens);
  }
}

}  // namespace

const SequenceAttentionKernels kSequenceAttention = {forward_floats, backward_floats, forward, backward};

}  // namespace weft::kernels::WEFT_KERNELS
