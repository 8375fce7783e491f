// The two products of attention within one block of 32 tokens, in registers: tiles of R queries.
// Included by attention.cc only, after kernels/simd.h.
#pragma once

namespace weft::kernels::WEFT_KERNELS {

#if defined(WEFT_KERNELS_AVX512)
constexpr int kMaxTileRows = 12;  // accumulators: 12 x 2 of 32 registers
constexpr int few_rows_vectors(int) { return 2; }
constexpr int value_vectors(int rows) { return rows <= 6 ? 4 : 2; }
#else
constexpr int kMaxTileRows = 6;   // 6 x 2 or 3 x 4 of 16 registers
constexpr int few_rows_vectors(int rows) { return rows <= 3 ? 4 : 2; }
constexpr int value_vectors(int rows) { return rows == 1 ? 8 : few_rows_vectors(rows); }
#endif

// Asks for the `bytes` at `from`, which the caller will read in the next step.
template <int kBytes>
static inline void prefetch(const char* from) {
  for (int byte = 0; byte < kBytes; byte += 64) __builtin_prefetch(from + byte);
}

// sums[r][v] += scalars[r * stride] * vectors[v]: the operand of which there are fewer stays in registers.
template <int R, int V, typename T>
static inline void multiply_add(F32 (&sums)[R][V], const float* scalars, int stride, const T* vectors) {
  if constexpr (R < V) {
    F32 scalar[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) scalar[r] = broadcast(scalars[r * stride]);
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const F32 vector = load_element(vectors + v * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) sums[r][v] = fma(scalar[r], vector, sums[r][v]);
    }
  } else {
    F32 vector[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) vector[v] = load_element(vectors + v * kLanes);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) {
      const F32 scalar = broadcast(scalars[r * stride]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] = fma(scalar, vector[v], sums[r][v]);
    }
  }
}

// scores[r][t] = sum over d ascending of queries[d][r] * keys[d][t]; scores are 32 apart.
// Meanwhile asks for as many bytes at `next` as the keys have.
template <int R, typename T>
static inline void score_tile(const T* keys, const float* queries, int64_t head_dim, float* scores, const char* next) {
  constexpr int V = few_rows_vectors(R);
  constexpr int kStep = V * kLanes * static_cast<int>(sizeof(T));
  for (int first = 0; first < kTokens; first += V * kLanes) {
    F32 sums[R][V];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sums[r][v] = zero();
    const T* column = keys + first;
    const float* query = queries;
    for (int64_t d = 0; d < head_dim; ++d, column += kTokens, query += R, next += kStep) {
      prefetch<kStep>(next);
      multiply_add(sums, query, 1, column);
    }
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) store(scores + r * kTokens + first + v * kLanes, sums[r][v]);
  }
}

// out[r][c] += sum over tokens t in [begin, end) ascending of weights[r][t] * values[t][c], for V vectors of
// columns; weights are 32 apart.
template <int R, int V, typename T>
static inline void value_columns(const T* values, int64_t stride, int begin, int end, const float* weights, float* out,
                                 int64_t out_stride, const char* next) {
  constexpr int kStep = V * kLanes * static_cast<int>(sizeof(T));
  F32 sums[R][V];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sums[r][v] = load(out + r * out_stride + v * kLanes);
  values += begin * stride;
  for (int t = begin; t < end; ++t, values += stride, next += kStep) {
    prefetch<kStep>(next);
    multiply_add(sums, weights + t, kTokens, values);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store(out + r * out_stride + v * kLanes, sums[r][v]);
}

template <int R, typename T>
static inline void value_tile(const T* values, int64_t stride, int64_t columns, int begin, int end, const float* weights,
                              float* out, int64_t out_stride, const char* next) {
  constexpr int V = value_vectors(R);
  int64_t column = 0;
  for (; column + V * kLanes <= columns; column += V * kLanes) {
    value_columns<R, V>(values + column, stride, begin, end, weights, out + column, out_stride,
                        next + column * kTokens * static_cast<int64_t>(sizeof(T)));
  }
  for (; column < columns; column += kLanes) {
    value_columns<R, 1>(values + column, stride, begin, end, weights, out + column, out_stride,
                        next + column * kTokens * static_cast<int64_t>(sizeof(T)));
  }
}

// The same for a number of rows from 1 to R that is known only now.
template <int R, typename T>
static void score_rows(int rows, const T* keys, const float* queries, int64_t head_dim, float* scores,
                       const char* next) {
  if (rows == R) return score_tile<R>(keys, queries, head_dim, scores, next);
  if constexpr (R > 1) score_rows<R - 1>(rows, keys, queries, head_dim, scores, next);
}

template <int R, typename T>
static void value_rows(int rows, const T* values, int64_t stride, int64_t columns, int begin, int end,
                       const float* weights, float* out, int64_t out_stride, const char* next) {
  if (rows == R) return value_tile<R>(values, stride, columns, begin, end, weights, out, out_stride, next);
  if constexpr (R > 1)
    value_rows<R - 1>(rows, values, stride, columns, begin, end, weights, out, out_stride, next);
}

}  // namespace weft::kernels::WEFT_KERNELS
