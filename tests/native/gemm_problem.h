// Products of training on random matrices, run on a pool, for tests and benchmarks.
#pragma once

#include <cmath>
#include <optional>

#include "base/half.h"
#include "check.h"
#include "op_runner.h"
#include "ops/gemm.h"

namespace weft::test {

inline Table<float> random_matrix(int64_t rows, int64_t columns, uint32_t seed, int64_t gap = 0) {
  Table<float> table(rows, columns, gap, NAN);
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> values(-1, 1);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) table.at(r, c) = values(random);
  return table;
}

// An operand stored by row, or transposed.
struct StoredOperand {
  Table<float> table;
  bool is_transposed;

  StoredOperand(int64_t rows, int64_t inputs, bool transposed, uint32_t seed, int64_t gap = 0)
      : table(transposed ? random_matrix(inputs, rows, seed, gap) : random_matrix(rows, inputs, seed, gap)),
        is_transposed(transposed) {}
  float at(int64_t row, int64_t k) const { return is_transposed ? table.at(k, row) : table.at(row, k); }
  GemmOperand operand() const {
    return is_transposed ? GemmOperand::by_input(table.row(0), table.stride)
                         : GemmOperand::by_row(table.row(0), table.stride);
  }
};

enum class Packing { kBoth, kOnlyA, kOnlyB };

// A product with its memory, made for a number of threads; run() packs and multiplies.
class PreparedProduct final : public Job {
 public:
  PreparedProduct(const Kernels& kernels, const GemmProduct& product, int threads, Packing packing)
      : kernels_(*kernels.gemm), product_(product),
        a_(GemmWork::packed_a_bytes(kernels_, product.form, product.sizes)),
        b_(GemmWork::packed_b_bytes(kernels_, product.form, product.sizes)) {
    if (packing != Packing::kOnlyB) product_.packed_a = static_cast<uint8_t*>(a_.data());
    if (packing != Packing::kOnlyA) product_.packed_b = static_cast<uint8_t*>(b_.data());
    for (int thread = 0; thread < threads; ++thread)
      scratch_.emplace_back(GemmWork::scratch_bytes(kernels_, product.form, product.sizes, product_.packed_a, product_.packed_b));
    work_.emplace(kernels_, product_, threads);
  }
  PreparedProduct(const PreparedProduct&) = delete;
  PreparedProduct& operator=(const PreparedProduct&) = delete;

  int64_t num_phases() const override { return 2; }
  int64_t num_tiles(int64_t phase) const override { return phase == 0 ? work_->num_pack_tiles() : work_->num_tiles(); }
  void run_tile(int64_t phase, int64_t tile, int thread) override {
    void* scratch = scratch_[static_cast<size_t>(thread)].data();
    phase == 0 ? work_->pack(tile, scratch) : work_->multiply(tile, scratch);
  }

 private:
  const GemmKernels& kernels_;
  GemmProduct product_;
  Memory a_, b_;
  std::vector<Memory> scratch_;
  std::optional<GemmWork> work_;
};

inline float rounded(GemmForm form, float value) {
  return form == GemmForm::kF32 ? value : float_of_bf16(bf16_of_float(value));
}

}  // namespace weft::test
