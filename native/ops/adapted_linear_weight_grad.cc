#include <algorithm>

#include "ops/adapter_parts.h"
#include "ops/checks.h"
#include "ops/gemm_op.h"
#include "ops/ops.h"

namespace weft {

namespace {

// For each part:  d_a += d_low^T * x;  d_b += d_out^T * low, of the part's low columns and its columns of d_out.
//
// x and d_out are much larger than what they are multiplied with: tiles pack of them what they need, x once for all parts.
class AdaptedLinearWeightGrad final : public Op {
 public:
  explicit AdaptedLinearWeightGrad(const NodeSpec& spec)
      : kernels_(*spec.kernels->gemm), form_(gemm_form(spec)), x_(spec.input("x")), d_out_(spec.input("d_out")),
        low_(spec.input("low")), d_low_(spec.input("d_low")), k_(columns_of(spec, "x")),
        parts_(adapter_parts(spec, "d_", columns_of(spec, "d_out"), k_)), rank_(total_rank(parts_)),
        max_rows_(spec.max_rows) {
    expect_columns(spec, "low", rank_);
    expect_columns(spec, "d_low", rank_);
  }

  int num_phases() const override { return 2; }

  void check(const OpArgs& args) const override {
    for (const int operand : {d_out_, low_, d_low_})
      expect_rows(args.in[operand].rows, args.in[x_].rows, "an adapted layer's gradients");
  }

  size_t scratch_bytes() const override {
    size_t bytes = GemmWork::scratch_bytes(kernels_, form_, {rank_, k_, max_rows_}, true, false);
    for (const AdapterPart& part : parts_)
      bytes = std::max(bytes, GemmWork::scratch_bytes(kernels_, form_, {part.n, part.rank, max_rows_}, false, true));
    return bytes;
  }

  size_t shared_bytes() const override { return place_of(parts_.size(), max_rows_); }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    if (args.in[x_].rows == 0) return 0;
    int64_t tiles = 0;
    each_product(args, [&](const GemmProduct&, const GemmWork& cut, bool) {
      tiles += phase == 0 ? cut.num_pack_tiles() : cut.num_tiles();
      return true;
    });
    return tiles;
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    void* scratch = args.scratch[thread].data;
    each_product(args, [&](const GemmProduct& product, const GemmWork& cut, bool is_of_a) {
      const int64_t tiles = phase == 0 ? cut.num_pack_tiles() : cut.num_tiles();
      if (tile >= tiles) return tile -= tiles, true;
      phase == 0 ? cut.pack(tile, scratch) : cut.multiply(tile, scratch);
      if (phase == 1 && is_of_a) add_to_parts(product, cut.part_of(tile));
      return false;
    });
  }

 private:
  // Bytes at which a product's packed operand begins in shared memory: first those of d_b, then that of d_a with its
  // sums, then the end.
  size_t place_of(size_t part, int64_t rows) const {
    size_t at = 0;
    for (size_t i = 0; i < part; ++i) at += GemmWork::packed_b_bytes(kernels_, form_, {parts_[i].n, parts_[i].rank, rows});
    if (part < parts_.size()) return at;
    return at + sums_bytes() + GemmWork::packed_a_bytes(kernels_, form_, {rank_, k_, rows});
  }
  size_t sums_bytes() const { return (static_cast<size_t>(rank_ * k_) * sizeof(float) + 63) / 64 * 64; }

  GemmProduct product_of_a(const OpArgs& args) const {
    const Matrix &x = args.in[x_], &d_low = args.in[d_low_];
    GemmProduct work = {form_, {rank_, k_, x.rows}, GemmOperand::by_input(d_low.f32_row(0), d_low.row_stride),
                        GemmOperand::by_input(x)};
    uint8_t* shared = static_cast<uint8_t*>(args.shared);
    work.out = reinterpret_cast<float*>(shared);
    work.out_stride = k_;
    work.packed_a = shared + sums_bytes();
    return work;
  }

  GemmProduct product_of_b(size_t index, const OpArgs& args) const {
    const AdapterPart& part = parts_[index];
    const Matrix &d_out = args.in[d_out_], &low = args.in[low_];
    GemmProduct work = {form_, {part.n, part.rank, low.rows},
                        GemmOperand::by_input(d_out, part.first),
                        GemmOperand::by_input(low.f32_row(0) + part.low, low.row_stride)};
    work.addend = work.out = part.b->data();
    work.addend_stride = work.out_stride = part.rank;
    const size_t before = sums_bytes() + GemmWork::packed_a_bytes(kernels_, form_, {rank_, k_, low.rows});
    work.packed_b = static_cast<uint8_t*>(args.shared) + before + place_of(index, low.rows);
    return work;
  }

  // visit(product, its tiles, whether it is that of all d_a), until it returns false.
  template <class Visit>
  void each_product(const OpArgs& args, const Visit& visit) const {
    const GemmProduct of_a = product_of_a(args);
    if (!visit(of_a, GemmWork(kernels_, of_a, args.num_threads), true)) return;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const GemmProduct of_b = product_of_b(i, args);
      if (!visit(of_b, GemmWork(kernels_, of_b, args.num_threads), false)) return;
    }
  }

  // Adds a tile's columns of the sums [rank][k] to each part's own tensor.
  void add_to_parts(const GemmProduct& product, const GemmWork::Part& tile) const {
    for (const AdapterPart& part : parts_) {
      for (int64_t j = 0; j < part.rank; ++j) {
        const float* from = product.out + (part.low + j) * k_;
        float* to = part.a->row(j);
        for (int64_t c = tile.column; c < tile.column + tile.columns; ++c) to[c] += from[c];
      }
    }
  }

  const GemmKernels& kernels_;
  const GemmForm form_;
  const int x_, d_out_, low_, d_low_;
  const int64_t k_;
  const std::vector<AdapterPart> parts_;
  const int64_t rank_, max_rows_;
};

}  // namespace

std::unique_ptr<Op> make_adapted_linear_weight_grad(const NodeSpec& spec) {
  return std::make_unique<AdaptedLinearWeightGrad>(spec);
}

}  // namespace weft
