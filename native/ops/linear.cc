#include <algorithm>

#include "ops/checks.h"
#include "ops/linear_tensor.h"
#include "ops/ops.h"
#include "ops/product_tiles.h"
#include "ops/streaming.h"
#include "ops/weight.h"

namespace weft {

namespace {

constexpr int kMaxForms = 3;
constexpr size_t kAlignment = 64;

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
//
// A gated product that `packs` gives many rows packed as the one product that reads them wants them, which is said to
// have `packed_rows`: a block of them in the place of its rows of floats.
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
    choose_packing(spec);
  }

  int num_phases() const override { return 2; }

  size_t scratch_bytes() const override {
    const size_t part = packs_ ? static_cast<size_t>(kBlockRows * kPackedColumns) * sizeof(float) : 0;
    return aligned(kernels_.scratch_bytes) + std::max(row_bytes(), part) +
           blocks_bytes(std::min(max_rows_, kernels_.few_rows));
  }
  size_t shared_bytes() const override {
    if (max_rows_ <= kernels_.few_rows) return 0;
    return static_cast<size_t>(ProductRows::most_padded_rows(max_rows_)) * blocks_bytes(1);
  }

  void check(const OpArgs& args) const override {
    expect_rows(args.out[0].rows, args.in[x_].rows, "a linear layer's output");
    if (residual_ >= 0) expect_rows(args.in[residual_].rows, args.in[x_].rows, "a linear layer's residual");
    if ((packs_ && args.out[0].row_stride != columns_) || (has_packed_rows_ && args.in[x_].row_stride != weight_->k()))
      throw Error(ErrorKind::kPlan, "a linear layer expects packed rows in a buffer of their own, got columns of one");
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    const int64_t rows = args.in[x_].rows;
    if (rows == 0) return 0;
    if (phase == 0) return is_few(rows) || has_packed_rows_ ? 0 : (rows + kPackRows - 1) / kPackRows;
    return tiles(args).count();
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    if (phase == 0) return pack_tile(tile, args, thread);
    const ProductTiles shares = tiles(args);
    const ProductTile place = shares.at(tile);
    RowBlock blocks[kMaxForms];
    if (is_few(args.in[x_].rows)) {
      pack_alone(args, args.scratch[thread], blocks);
    } else if (has_packed_rows_) {
      blocks[0] = block_in(args.in[x_], row_blocks(args), place.block, forms_[0]);
    } else {
      blocks_at(shared_block(args, place.block), row_blocks(args).rows(place.block), blocks);
    }
    const uint8_t* next = shares.data(tile + 1);
    if (packs(args)) return multiply_and_pack(place, next, args, args.scratch[thread], blocks);
    shares.each_part(place, [&](size_t part, int64_t first, int64_t last) {
      multiply(part, first, last, place.block, next, args, args.scratch[thread], blocks);
    });
  }

 private:
  static constexpr int64_t kPackRows = 8;
  static constexpr int64_t kPackedPanels = 2 * kPackedColumns / kPanelColumns;  // of a gated product

  bool is_few(int64_t rows) const { return rows <= kernels_.few_rows; }
  ProductRows row_blocks(const OpArgs& args) const { return ProductRows(args.in[x_].rows, args.num_threads); }

  ProductTiles tiles(const OpArgs& args) const {
    const int64_t rows = args.in[x_].rows;
    if (is_few(rows)) return ProductTiles(*weight_, rows, 1, args.num_threads);
    const ProductRows blocks = row_blocks(args);
    const int64_t panels = packs_ ? kPackedPanels : 1;
    return ProductTiles(*weight_, rows, blocks.count(), args.num_threads, blocks.num_shares(), panels);
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

  // Rows are packed in place where what they become is no larger than floats.
  bool packs_in_place(RowForm form, int64_t columns) const {
    return kernels_.block_bytes(form, 1, columns) <= static_cast<size_t>(columns) * sizeof(float);
  }

  void choose_packing(const NodeSpec& spec) {
    const std::string packs = spec.string_or("packs", "");
    const bool has_packed_rows = spec.number_or("packed_rows", 0) != 0;
    if (has_packed_rows && (norm_ != RowNorm::kNone || num_forms_ != 1 || weight_->k() % kPackedColumns))
      refuse_node(spec, "packed rows of whole groups for a weight of one kind, without a norm", "others");
    has_packed_rows_ = has_packed_rows && packs_in_place(forms_[0], weight_->k());
    if (packs.empty()) return;
    if (!is_gate(activation_) || residual_ >= 0 || weight_->parts().size() != 1 || columns_ % kPackedColumns)
      refuse_node(spec, "a gated product of whole groups and one part that packs", "another");
    packed_form_ = kernels_.row_form[static_cast<int>(panel_kind(packs))];
    packs_ = packs_in_place(packed_form_, columns_);
  }

  bool packs(const OpArgs& args) const { return packs_ && !is_few(args.in[x_].rows); }

  // A block of packed rows in the place of its rows of floats.
  static RowBlock block_in(const Matrix& rows, const ProductRows& blocks, int64_t block, RowForm form) {
    uint8_t* data = reinterpret_cast<uint8_t*>(rows.f32_row(blocks.first_row(block)));
    return {data, form, blocks.rows(block), rows.columns};
  }

  // Scratch of a thread: the kernel's, a row of floats or columns to be packed, packed rows.
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
    blocks_at(reinterpret_cast<uint8_t*>(row_of(scratch)) + row_bytes(), rows, blocks);
    if (scratch.owner == this && scratch.run == args.run) return;
    const RowSource source = source_from(args, 0);
    kernels_.pack_rows(&source, blocks, num_forms_, 0, rows, row_of(scratch));
    scratch.owner = this;
    scratch.run = args.run;
  }

  void pack_tile(int64_t tile, const OpArgs& args, int thread) const {
    const ProductRows row_blocks = this->row_blocks(args);
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

  // A few columns at a time are multiplied into scratch memory and packed from there.
  void multiply_and_pack(const ProductTile& place, const uint8_t* next, const OpArgs& args, const ThreadScratch& scratch,
                         const RowBlock* blocks) const {
    const WeightPart& part = weight_->parts()[0];
    const RowBlock to = block_in(args.out[0], row_blocks(args), place.block, packed_form_);
    float* columns = row_of(scratch);
    Product product = {};
    product.weight = weight_->panels(part);
    product.x = blocks[form_of_part_[0]];
    for (int64_t panel = place.first_panel; panel < place.last_panel; panel += kPackedPanels) {
      const int64_t first = panel * kPanelColumns / 2, after = panel + kPackedPanels;
      product.next = after < place.last_panel ? product.weight.data + after * part.panel_bytes : next;
      product.epilogue = {activation_, out_scale_, bias_ ? bias_->data() : nullptr, nullptr, 0, columns - first,
                          kPackedColumns, columns_, false};
      kernels_.multiply(&product, panel, after, scratch.data);
      kernels_.pack_columns(columns, kPackedColumns, &to, first, first + kPackedColumns);
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
  bool packs_ = false, has_packed_rows_ = false;
  RowForm packed_form_ = RowForm::kF32;
  std::vector<int> form_of_part_;
};

}  // namespace

std::unique_ptr<Op> make_linear(const NodeSpec& spec) {
  if (spec.tensors.count("weight")) return make_linear_tensor(spec);
  return std::make_unique<Linear>(spec);
}

}  // namespace weft
