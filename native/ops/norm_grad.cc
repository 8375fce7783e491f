// The gradients of rms_norm and layer_norm.
#include <string.h>

#include <algorithm>

#include "memory/tensor.h"
#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// Gradients of parameters are summed over blocks of this many rows, and the blocks' sums added in their order.
constexpr int64_t kBlockRows = 64;
constexpr int64_t kTileColumns = 128;

// Row by row, or, where gradients of parameters are wanted, in two phases: blocks of rows with their partial
// sums [block][parameter][columns], then columns of the sums.
class NormGrad : public Op {
 public:
  explicit NormGrad(const NodeSpec& spec)
      : x_(spec.input("x")), d_out_(spec.input("d_out")), residual_(spec.input_or_none("residual")),
        columns_(columns_of(spec, "x")), size_(columns_), eps_(static_cast<float>(spec.number("eps"))),
        max_rows_(spec.max_rows) {
    for (const char* name : {"d_out", "d_x"}) expect_columns(spec, name, columns_);
    if (residual_ >= 0) expect_columns(spec, "residual", columns_);
  }

  bool row_wise() const override { return parameters_.empty(); }
  int num_phases() const override { return parameters_.empty() ? 1 : 2; }
  size_t shared_bytes() const override {
    return static_cast<size_t>(num_blocks(max_rows_) * partial_floats()) * sizeof(float);
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    const int64_t rows = args.in[x_].rows;
    if (phase == 0) return num_blocks(rows);
    return rows == 0 ? 0 : (size_ + kTileColumns - 1) / kTileColumns;
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    const int64_t begin = tile * kBlockRows, end = std::min(args.in[x_].rows, begin + kBlockRows);
    if (row_wise()) return run_rows(begin, end, args, thread);
    if (phase == 1) return add_sums(tile * kTileColumns, args);
    float* partials = static_cast<float*>(args.shared) + tile * partial_floats();
    memset(partials, 0, static_cast<size_t>(partial_floats()) * sizeof(float));
    for (int64_t row = begin; row < end; ++row) run_row(row, args, partials);
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row) run_row(row, args, nullptr);
  }

 protected:
  // `partials`: the sums to add to, one after another, or null.
  virtual void run_row(int64_t row, const OpArgs& args, float* partials) const = 0;

  void add_parameter(std::shared_ptr<Tensor> gradient) {
    if (gradient) parameters_.push_back(std::move(gradient));
  }
  const float* residual(int64_t row, const OpArgs& args) const {
    return residual_ < 0 ? nullptr : args.in[residual_].f32_row(row);
  }

  int x_, d_out_, residual_;
  int64_t columns_;
  int64_t size_;  // of a parameter
  float eps_;

 private:
  static int64_t num_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }
  int64_t partial_floats() const { return size_ * static_cast<int64_t>(parameters_.size()); }

  void add_sums(int64_t begin, const OpArgs& args) const {
    const int64_t count = std::min(kTileColumns, size_ - begin);
    float* sums = static_cast<float*>(args.shared) + begin;  // the first block's, which take up the others
    for (size_t parameter = 0; parameter < parameters_.size(); ++parameter, sums += size_) {
      for (int64_t block = 1; block < num_blocks(args.in[x_].rows); ++block)
        args.kernels->rows->add(sums, sums + block * partial_floats(), sums, count);
      float* total = parameters_[parameter]->data() + begin;
      args.kernels->rows->add(total, sums, total, count);
    }
  }

  std::vector<std::shared_ptr<Tensor>> parameters_;
  int64_t max_rows_;
};

class RmsNormGrad final : public NormGrad {
 public:
  explicit RmsNormGrad(const NodeSpec& spec)
      : NormGrad(spec), heads_(spec.numbers.count("heads") ? integer(spec, "heads", 1) : 1) {
    if (columns_ % heads_) refuse_node(spec, "columns in " + std::to_string(heads_) + " equal slices", std::to_string(columns_));
    size_ = columns_ / heads_;
    weight_ = spec.vector("weight", size_);
    add_parameter(spec.tensor_or_null("d_weight", 1, size_));
  }

 private:
  void run_row(int64_t row, const OpArgs& args, float* partials) const override {
    const float *x = args.in[x_].f32_row(row), *d_out = args.in[d_out_].f32_row(row), *added = residual(row, args);
    float* d_x = args.out[0].f32_row(row);
    for (int64_t first = 0; first < columns_; first += size_) {
      args.kernels->row_gradients->rms_norm(x + first, weight_.get(), d_out + first, added ? added + first : nullptr,
                                            d_x + first, partials, size_, eps_);
    }
  }

  int64_t heads_;
  Vector weight_;
};

class LayerNormGrad final : public NormGrad {
 public:
  explicit LayerNormGrad(const NodeSpec& spec) : NormGrad(spec), weight_(spec.vector("weight", columns_)) {
    has_d_weight_ = spec.tensors.count("d_weight") > 0;
    has_d_bias_ = spec.tensors.count("d_bias") > 0;
    for (const char* name : {"d_weight", "d_bias"}) add_parameter(spec.tensor_or_null(name, 1, columns_));
  }

 private:
  void run_row(int64_t row, const OpArgs& args, float* partials) const override {
    float* d_weight = has_d_weight_ ? partials : nullptr;
    float* d_bias = !has_d_bias_ || !partials ? nullptr : partials + (has_d_weight_ ? columns_ : 0);
    args.kernels->row_gradients->layer_norm(args.in[x_].f32_row(row), weight_.get(), args.in[d_out_].f32_row(row),
                                            residual(row, args), args.out[0].f32_row(row), d_weight, d_bias, columns_,
                                            eps_);
  }

  Vector weight_;
  bool has_d_weight_ = false, has_d_bias_ = false;
};

}  // namespace

std::unique_ptr<Op> make_rms_norm_grad(const NodeSpec& spec) { return std::make_unique<RmsNormGrad>(spec); }
std::unique_ptr<Op> make_layer_norm_grad(const NodeSpec& spec) { return std::make_unique<LayerNormGrad>(spec); }

}  // namespace weft
