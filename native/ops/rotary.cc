#include <cmath>

#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// Radians per position as turns of 2^-64, so that any position's angle is exact integer arithmetic.
uint64_t turns_of(double radians) {
  const double turns = radians / 6.283185307179586476925;
  const double fraction = turns - std::floor(turns);
  return fraction < 1.0 ? static_cast<uint64_t>(std::ldexp(fraction, 64)) : 0;
}

// Rotates the pair (i, i + rotary_dim / 2) of each head by the angle positions[r] * inv_freq[i]; `inverse`
// rotates back, which is the gradient of the rotation.
class Rotary final : public Op {
 public:
  explicit Rotary(const NodeSpec& spec)
      : x_(spec.input("x")), positions_(spec.input("positions")), heads_(integer(spec, "heads", 1)),
        head_dim_(integer(spec, "head_dim", 1)), rotary_dim_(integer(spec, "rotary_dim", 2)),
        scale_(static_cast<float>(spec.number_or("attention_scale", 1.0))),
        is_inverse_(spec.number_or("inverse", 0.0) != 0.0) {
    if (rotary_dim_ % 2 || rotary_dim_ > head_dim_)
      refuse_node(spec, "an even rotary_dim of at most " + std::to_string(head_dim_), std::to_string(rotary_dim_));
    expect_columns(spec, "x", heads_ * head_dim_);
    expect_columns(spec, "out", heads_ * head_dim_);
    expect_columns(spec, "positions", 1);
    const Vector kept = spec.vector("inv_freq", rotary_dim_ / 2);
    const float* inv_freq = kept.get();
    for (int64_t i = 0; i < rotary_dim_ / 2; ++i) {
      if (!std::isfinite(inv_freq[i])) refuse_node(spec, "finite frequencies", std::to_string(inv_freq[i]));
      turns_.push_back(turns_of(inv_freq[i]));
    }
  }

  bool row_wise() const override { return true; }
  size_t scratch_bytes() const override { return static_cast<size_t>(rotary_dim_) * sizeof(float); }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[positions_], args.in[x_].rows, INT32_MAX, "positions");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int thread) const override {
    ThreadScratch& scratch = args.scratch[thread];
    scratch.owner = nullptr;
    const int64_t half = rotary_dim_ / 2;
    float* cosines = static_cast<float*>(scratch.data);
    for (int64_t row = begin; row < end; ++row) {
      const int32_t position = *args.in[positions_].i32_row(row);
      args.kernels->rows->rotary_angles(position, turns_.data(), half, scale_, cosines, cosines + half);
      if (is_inverse_)
        for (int64_t i = half; i < 2 * half; ++i) cosines[i] = -cosines[i];
      args.kernels->rows->rotary(args.in[x_].f32_row(row), args.out[0].f32_row(row), cosines, cosines + half, heads_,
                                 head_dim_, rotary_dim_);
    }
  }

 private:
  int x_, positions_;
  int64_t heads_, head_dim_, rotary_dim_;
  float scale_;
  bool is_inverse_;
  std::vector<uint64_t> turns_;
};

}  // namespace

std::unique_ptr<Op> make_rotary(const NodeSpec& spec) { return std::make_unique<Rotary>(spec); }

}  // namespace weft
