// Products with the two thin matrices of a low-rank adapter, for one row or a few at a time.
#pragma once

#include <stdint.h>

namespace weft {

// Rows that one call takes at most; each row's result is the same alone and among others.
constexpr int64_t kLowRankRows = 4;

struct LowRankKernels {
  // for r in rows, j in rank: low[r * rank + j] = sum over k of x[r * x_stride + k] * a[j * columns + k]
  void (*down)(const float* x, int64_t x_stride, int64_t rows, const float* a, int64_t columns, int64_t rank,
               float* low);

  // for r in rows, c in columns: out[r * out_stride + c] += sum over j of low[r * rank + j] * b[j * b_stride + c]
  void (*up)(const float* low, int64_t rows, int64_t rank, const float* b, int64_t b_stride, float* out,
             int64_t out_stride, int64_t columns);
};

}  // namespace weft
