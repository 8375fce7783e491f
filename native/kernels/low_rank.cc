#include "kernels/low_rank.h"

#include "kernels/kernel_set.h"
#include "kernels/simd.h"

#include "kernels/vectors.h"

namespace weft::kernels::WEFT_KERNELS {

namespace {

// Dot products of kRows rows with kRanks rows of `a`, each in one vector of sums: enough of them in flight to
// hide the latency of the multiplication, and an order of the sum that `columns` alone fixes.
template <int kRows, int kRanks>
void down_block(const float* x, int64_t x_stride, const float* a, int64_t columns, int64_t rank, float* low) {
  F32 sums[kRows][kRanks];
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kRanks; ++j) sums[r][j] = zero();
  each_vector(columns, [&](int64_t k, auto vector) {
    F32 rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = vector.load(x + r * x_stride + k);
    for (int j = 0; j < kRanks; ++j) {
      const F32 factor = vector.load(a + j * columns + k);
      for (int r = 0; r < kRows; ++r) sums[r][j] = fma(rows[r], factor, sums[r][j]);
    }
  });
  for (int r = 0; r < kRows; ++r)
    for (int j = 0; j < kRanks; ++j) low[r * rank + j] = reduce_add(sums[r][j]);
}

template <int kRows, int kRanks>
void down_rows(const float* x, int64_t x_stride, const float* a, int64_t columns, int64_t rank, float* low) {
  int64_t j = 0;
  for (; j + kRanks <= rank; j += kRanks)
    down_block<kRows, kRanks>(x, x_stride, a + j * columns, columns, rank, low + j);
  for (; j < rank; ++j) down_block<kRows, 1>(x, x_stride, a + j * columns, columns, rank, low + j);
}

void down(const float* x, int64_t x_stride, int64_t rows, const float* a, int64_t columns, int64_t rank, float* low) {
  if (rows == kLowRankRows) return down_rows<kLowRankRows, 2>(x, x_stride, a, columns, rank, low);
  for (int64_t r = 0; r < rows; ++r) down_rows<1, 8>(x + r * x_stride, x_stride, a, columns, rank, low + r * rank);
}

template <int kRows, int kVectors, typename Vector>
void up_block(const Vector& vector, const float* low, int64_t rank, const float* b, int64_t b_stride, float* out,
              int64_t out_stride) {
  F32 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) sums[r][v] = vector.load(out + r * out_stride + v * kLanes);
  for (int64_t j = 0; j < rank; ++j) {
    F32 factors[kVectors];
    for (int v = 0; v < kVectors; ++v) factors[v] = vector.load(b + j * b_stride + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const F32 factor = broadcast(low[r * rank + j]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = fma(factor, factors[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r)
    for (int v = 0; v < kVectors; ++v) vector.store(out + r * out_stride + v * kLanes, sums[r][v]);
}

template <int kRows, int kVectors>
void up_rows(const float* low, int64_t rank, const float* b, int64_t b_stride, float* out, int64_t out_stride,
             int64_t columns) {
  int64_t c = 0;
  for (; c + kVectors * kLanes <= columns; c += kVectors * kLanes)
    up_block<kRows, kVectors>(WholeVector{}, low, rank, b + c, b_stride, out + c, out_stride);
  for (; c + kLanes <= columns; c += kLanes)
    up_block<kRows, 1>(WholeVector{}, low, rank, b + c, b_stride, out + c, out_stride);
  if (c < columns) up_block<kRows, 1>(PartialVector{columns - c}, low, rank, b + c, b_stride, out + c, out_stride);
}

void up(const float* low, int64_t rows, int64_t rank, const float* b, int64_t b_stride, float* out,
        int64_t out_stride, int64_t columns) {
  if (rows == kLowRankRows) return up_rows<kLowRankRows, 2>(low, rank, b, b_stride, out, out_stride, columns);
  for (int64_t r = 0; r < rows; ++r)
    up_rows<1, 8>(low + r * rank, rank, b, b_stride, out + r * out_stride, out_stride, columns);
}

}  // namespace

const LowRankKernels kLowRank = {down, up};

}  // namespace weft::kernels::WEFT_KERNELS
