#include <algorithm>

#include "ops/checks.h"
#include "ops/linear_tensor.h"
#include "ops/ops.h"
#include "ops/product_tiles.h"
#include "ops/weight.h"

namespace weft {

namespace {

constexpr int kMaxForms = 3;
constexpr size_t kAlignment = 64;
// An output larger than this has left the caches before it is read: it is written past them.
constexpr int64_t kStreamedBytes = int64_t{6} << 20;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

RowNorm norm_of(const NodeSpec& spec) {
  const std::string name = spec.string_or("norm", "");
  if (name.empty()) return RowNorm::kNone;
  if (name == "rms_norm") return RowNorm::kRms;
  if (name == "layer_norm") return RowNorm::kLayer;
  refuse_node(spec, "norm '', 'rms_norm' or 'layer_norm'", "'" + name + "'");
}

Activation activation_of(const NodeSpec& spec) {
  const std::string name = spec.string_or("activation", "");
  if (name.empty()) return Activation::kNone;
  if (name == "silu_gate") return Activation::kSiluGate;
  if (name == "gelu_gate") return Activation::kGeluGate;
  if (name == "gelu_tanh") return Activation::kGeluTanh;
  if (name == "gelu_erf") return Activation::kGeluErf;
  refuse_node(spec, "activation '', 'silu_gate', 'gelu_gate', 'gelu_tanh' or 'gelu_erf'", "'" + name + "'");
}

bool is_gate(Activation activation) {
  return activation == Activation::kSiluGate || activation == Activation::kGeluGate;
}

template <class Value>
std::shared_ptr<const Value> find_or_null(const std::map<std::string, std::shared_ptr<const Value>>& values,
                                          const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? nullptr : found->second;
}

// out = activation(norm(x) * weight^T + bias) * out_scale + residual
//
// Few rows: every thread packs all rows into its own scratch when it runs its first tile, in one phase.
// More: a phase packs them together, in blocks, into shared memory; the next multiplies. `out` may be the
// residual, and may not overlap x.
class Linear final : public Op {
 public:
  explicit Linear(const NodeSpec& spec)
      : kernels_(*spec.kernels->matmul), weight_(find_or_null(spec.weights, "weight")),
        bias_(find_or_null(spec.vectors, "bias")), norm_weight_(find_or_null(spec.vectors, "norm_weight")),
        norm_bias_(find_or_null(spec.vectors, "norm_bias")), x_(spec.input("x")),
        residual_(spec.input_or_none("residual")), norm_(norm_of(spec)), activation_(activation_of(spec)),
        eps_(norm_ == RowNorm::kNone ? 0.0f : static_cast<float>(spec.number("eps"))),
        out_scale_(static_cast<float>(spec.number_or("out_scale", 1.0))), max_rows_(spec.max_rows) {
    const Weight& weight = *spec.weight("weight");
    spec.vector_or_null("bias", weight.n());
    if (norm_ != RowNorm::kNone) spec.vector("norm_weight", weight.k());
    spec.vector_or_null("norm_bias", weight.k());
    expect_columns(spec, "x", weight.k());
    columns_ = is_gate(activation_) ? weight.n() / 2 : weight.n();
    expect_columns(spec, "out", columns_);
    if (residual_ >= 0) expect_columns(spec, "residual", columns_);
    const bool alternates = spec.number_or("alternating", 0) != 0;
    if ((is_gate(activation_) || alternates) != weight.is_interleaved())
      refuse_node(spec, "an interleaved weight exactly for a gated activation or alternating columns",
                  weight.is_interleaved() ? "one" : "none");
    choose_forms();
  }

  int num_phases() const override { return 2; }

  size_t scratch_bytes() const override {
    return aligned(kernels_.scratch_bytes) + row_bytes() + blocks_bytes(std::min(max_rows_, kernels_.few_rows));
  }
  size_t shared_bytes() const override {
    if (max_rows_ <= kernels_.few_rows) return 0;
    return static_cast<size_t>(RowBlocks::most_padded_rows(max_rows_)) * blocks_bytes(1);
  }

  void check(const OpArgs& args) const override {
    expect_rows(args.out[0].rows, args.in[x_].rows, "a linear layer's output");
    if (residual_ >= 0) expect_rows(args.in[residual_].rows, args.in[x_].rows, "a linear layer's residual");
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    const int64_t rows = args.in[x_].rows;
    if (phase == 0) return is_few(rows) ? 0 : (rows + kPackRows - 1) / kPackRows;
    return tiles(args).count();
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    if (phase == 0) return pack_tile(tile, args, thread);
    const ProductTiles shares = tiles(args);
    const ProductTile place = shares.at(tile);
    RowBlock blocks[kMaxForms];
    if (is_few(args.in[x_].rows)) {
      pack_alone(args, args.scratch[thread], blocks);
    } else {
      blocks_at(shared_block(args, place.block), row_blocks(args).rows(place.block), blocks);
    }
    const uint8_t* next = shares.data(tile + 1);
    shares.each_part(place, [&](size_t part, int64_t first, int64_t last) {
      multiply(part, first, last, place.block, next, args, args.scratch[thread], blocks);
    });
  }

 private:
  static constexpr int64_t kPackRows = 8;

  bool is_few(int64_t rows) const { return rows <= kernels_.few_rows; }
  RowBlocks row_blocks(const OpArgs& args) const { return RowBlocks(args.in[x_].rows, args.num_threads); }

  ProductTiles tiles(const OpArgs& args) const {
    const int64_t rows = args.in[x_].rows;
    if (is_few(rows)) return ProductTiles(*weight_, rows, 1, args.num_threads);
    const RowBlocks blocks = row_blocks(args);
    return ProductTiles(*weight_, rows, blocks.count(), args.num_threads, blocks.num_shares());
  }

  // Whether the columns of `out` from `first` on are written past the caches.
  static bool is_streamed(const Matrix& out, int64_t first) {
    const bool is_aligned = reinterpret_cast<uintptr_t>(out.f32_row(0) + first) % kAlignment == 0;
    return is_aligned && out.row_stride % 16 == 0 && out.rows * out.row_stride * int64_t{sizeof(float)} > kStreamedBytes;
  }

  // The forms that the parts want their rows in.
  void choose_forms() {
    for (const WeightPart& part : weight_->parts()) {
      const RowForm form = kernels_.row_form[static_cast<int>(part.format.kind)];
      const auto end = forms_ + num_forms_;
      const auto found = std::find(forms_, end, form);
      if (found == end) forms_[num_forms_++] = form;
      form_of_part_.push_back(static_cast<int>(found - forms_));
    }
  }

  // Scratch of a thread: the kernel's, a row of floats, packed rows.
  size_t row_bytes() const { return aligned(static_cast<size_t>(weight_->k() + kGroupInputs) * sizeof(float)); }
  float* row_of(const ThreadScratch& scratch) const {
    return reinterpret_cast<float*>(static_cast<char*>(scratch.data) + aligned(kernels_.scratch_bytes));
  }
  size_t blocks_bytes(int64_t rows) const {
    size_t bytes = 0;
    for (int i = 0; i < num_forms_; ++i) bytes += kernels_.block_bytes(forms_[i], rows, weight_->k());
    return bytes;
  }
  void blocks_at(uint8_t* data, int64_t rows, RowBlock* blocks) const {
    for (int i = 0; i < num_forms_; ++i) {
      blocks[i] = {data, forms_[i], rows, weight_->k()};
      data += kernels_.block_bytes(forms_[i], rows, weight_->k());
    }
  }
  uint8_t* shared_block(const OpArgs& args, int64_t block) const {
    return static_cast<uint8_t*>(args.shared) + static_cast<size_t>(block) * blocks_bytes(row_blocks(args).most_rows());
  }

  RowSource source_from(const OpArgs& args, int64_t row) const {
    const Matrix& x = args.in[x_];
    return {x.f32_row(row), x.row_stride, weight_->k(), norm_, norm_weight_ ? norm_weight_->data() : nullptr,
            norm_bias_ ? norm_bias_->data() : nullptr, eps_};
  }

  void pack_alone(const OpArgs& args, ThreadScratch& scratch, RowBlock* blocks) const {
    const int64_t rows = args.in[x_].rows;
    blocks_at(static_cast<uint8_t*>(scratch.data) + aligned(kernels_.scratch_bytes) + row_bytes(), rows, blocks);
    if (scratch.owner == this && scratch.run == args.run) return;
    const RowSource source = source_from(args, 0);
    kernels_.pack_rows(&source, blocks, num_forms_, 0, rows, row_of(scratch));
    scratch.owner = this;
    scratch.run = args.run;
  }

  void pack_tile(int64_t tile, const OpArgs& args, int thread) const {
    const RowBlocks row_blocks = this->row_blocks(args);
    int64_t row = tile * kPackRows;
    const int64_t end = std::min(args.in[x_].rows, row + kPackRows);
    while (row < end) {
      const int64_t block = row_blocks.of(row), first = row_blocks.first_row(block);
      const int64_t stop = std::min(end, row_blocks.end_row(block));
      RowBlock blocks[kMaxForms];
      blocks_at(shared_block(args, block), row_blocks.rows(block), blocks);
      const RowSource source = source_from(args, first);
      kernels_.pack_rows(&source, blocks, num_forms_, row - first, stop - first, row_of(args.scratch[thread]));
      row = stop;
    }
  }

  // Panels [first, last) of a part times the rows of a block.
  void multiply(size_t part_index, int64_t first, int64_t last, int64_t block, const uint8_t* next, const OpArgs& args,
                const ThreadScratch& scratch, const RowBlock* blocks) const {
    const WeightPart& part = weight_->parts()[part_index];
    const int64_t row = is_few(args.in[x_].rows) ? 0 : row_blocks(args).first_row(block);
    const Matrix& out = args.out[0];
    Product product;
    product.next = next;
    product.weight = weight_->panels(part);
    product.x = blocks[form_of_part_[part_index]];
    product.epilogue = {activation_, out_scale_, bias_ ? bias_->data() + part.first_output : nullptr, nullptr, 0,
                        out.f32_row(row) + part.first_output, out.row_stride,
                        is_gate(activation_) ? part.n / 2 : part.n, is_streamed(out, part.first_output)};
    if (residual_ >= 0) {
      product.epilogue.residual = args.in[residual_].f32_row(row) + part.first_output;
      product.epilogue.residual_stride = args.in[residual_].row_stride;
    }
    kernels_.multiply(&product, first, last, scratch.data);
  }

  const MatmulKernels& kernels_;
  std::shared_ptr<const Weight> weight_;
  std::shared_ptr<const std::vector<float>> bias_, norm_weight_, norm_bias_;
  int x_, residual_;
  RowNorm norm_;
  Activation activation_;
  float eps_, out_scale_;
  int64_t max_rows_;
  int64_t columns_ = 0;
  RowForm forms_[kMaxForms];
  int num_forms_ = 0;
  std::vector<int> form_of_part_;
};

}  // namespace

std::unique_ptr<Op> make_linear(const NodeSpec& spec) {
  if (spec.tensors.count("weight")) return make_linear_tensor(spec);
  return std::make_unique<Linear>(spec);
}

}  // namespace weft
