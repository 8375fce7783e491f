// Kernels of causal attention within one sequence, without a cache, and of its gradient.
#pragma once

#include <stdint.h>

namespace weft {

// The query heads that share one key/value head, over the rows of one sequence. Pointers are to row 0 and to the
// first of these heads; the group's heads lie head_dim apart. Row r sees the tokens j <= r, of which a window
// above 0 leaves the last.
struct SequenceHeads {
  const float* q;
  const float* k;
  const float* v;
  int64_t q_stride, k_stride, v_stride;
  int64_t num_rows, group, head_dim, window;
  float scale;
  bool rounds_to_bf16;  // factors of products, where the dot instruction of bfloat16 is there; sums are float32
};

// What the gradient reads and writes besides. log_sum_exp: one column a head.
struct SequenceGradients {
  const float* out;
  const float* d_out;
  const float* log_sum_exp;
  int64_t out_stride, d_out_stride, log_sum_exp_stride;
  float* d_q;  // of row `first_row` on; added to
  float* d_k;
  float* d_v;
  int64_t d_q_stride, d_k_stride, d_v_stride;
};

struct SequenceAttentionKernels {
  // Floats of workspace, aligned to 64 bytes, for up to `num_rows` rows of a tile.
  int64_t (*forward_floats)(int64_t num_rows, int64_t group, int64_t head_dim);
  int64_t (*backward_floats)(int64_t head_dim);

  // For rows [first_row, end_row) and each head h of the group, with s[j] = scale * q[r] . k[j]:
  //
  //   log_sum_exp[r][h] = log(sum over visible j of e^s[j])
  //   out[r][h] = sum over visible j of e^(s[j] - log_sum_exp) * v[j]
  //
  // `out` and `log_sum_exp` point to row 0. A row's result does not depend on the rows it is computed with.
  void (*forward)(const SequenceHeads& heads, int64_t first_row, int64_t end_row, float* out, int64_t out_stride,
                  float* log_sum_exp, int64_t log_sum_exp_stride, float* workspace);

  // What tokens [first_token, end_token) contribute, with p[j] = e^(s[j] - log_sum_exp):
  //
  //   for j, then r that sees j: d_s = p[j] * (d_out[r] . v[j] - d_out[r] . out[r]) * scale
  //     d_v[j] += p[j] * d_out[r];  d_k[j] += d_s * q[r];  d_q[r] += d_s * k[j]
  //
  // d_k and d_v (of row 0) are set for these tokens, head after head and rows ascending; d_q, which begins at row
  // first_token, is added to, in blocks of ascending tokens.
  void (*backward)(const SequenceHeads& heads, const SequenceGradients& gradients, int64_t first_token,
                   int64_t end_token, float* workspace);
};

}  // namespace weft
