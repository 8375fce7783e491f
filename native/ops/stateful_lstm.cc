#include <string.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/product_tiles.h"
#include "ops/sequences.h"
#include "ops/weight.h"

namespace weft {

namespace {

constexpr int64_t kGates = 4;
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// An LSTM for generation: each sequence goes on from a state (h | c), over a packed weight.
//
//   phase 0            sorts the sequences, longest first, and packs their h
//   phase 1 + 2 t      products[slot] = h * weight^T, for the sequences that are longer than t: tiles of panels
//   phase 2 + 2 t      the cells of row t of each; packs its h for the step after: tiles of sequences
//
// Every step multiplies as `linear` does, whose rows do not depend on each other, so that a text gets the same bits
// in one run or in many.
class StatefulLstm final : public Op {
 public:
  explicit StatefulLstm(const NodeSpec& spec)
      : kernels_(*spec.kernels->matmul), cells_(*spec.kernels->lstm), x_gates_(spec.input("x_gates")),
        sequences_(spec.input("sequences")), state_(spec.input("state")), h_(spec.output("h")),
        after_(spec.output("state_after")), max_rows_(spec.max_rows) {
    const Weight& weight = *spec.weight("weight");
    weight_ = spec.weights.at("weight");
    hidden_ = weight.k();
    if (weight.n() != kGates * hidden_)
      refuse_node(spec, "a recurrent weight [4H, H]", std::to_string(weight.n()) + " x " + std::to_string(hidden_));
    if (weight.is_interleaved()) refuse_node(spec, "a plain weight", "an interleaved one");
    expect_columns(spec, "x_gates", kGates * hidden_);
    expect_columns(spec, "sequences", 4);
    expect_columns(spec, "h", hidden_);
    for (const char* name : {"state", "state_after"}) expect_columns(spec, name, 2 * hidden_);
    form_ = kernels_.row_form[static_cast<int>(weight.parts().front().format.kind)];
    for (const WeightPart& part : weight.parts())
      if (kernels_.row_form[static_cast<int>(part.format.kind)] != form_)
        refuse_node(spec, "a recurrent weight of one kind", "several");
  }

  int num_phases() const override { return 1 + 2 * static_cast<int>(max_rows_); }

  // The kernel's; the gates of a row; a row while it is packed.
  size_t scratch_bytes() const override { return aligned(kernels_.scratch_bytes) + gates_bytes() + row_bytes(); }
  // The order of the sequences; their products; their packed rows.
  size_t shared_bytes() const override {
    return order_bytes() + static_cast<size_t>(max_rows_) * gates_bytes() +
           static_cast<size_t>(num_blocks(max_rows_)) * block_bytes();
  }

  void check(const OpArgs& args) const override {
    expect_sequences(args.in[sequences_], args.in[x_gates_].rows, "stateful_lstm");
    expect_rows(args.in[state_].rows, args.in[sequences_].rows, "stateful_lstm's state");
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    if (phase == 0) return args.in[sequences_].rows > 0 ? 1 : 0;
    const int64_t active = count_longer((phase - 1) / 2, args);
    if (active == 0 || phase % 2 == 0) return active;
    return tiles(active, args).count();
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    if (phase == 0) return begin(args, thread);
    const int64_t step = (phase - 1) / 2;
    phase % 2 ? multiply(count_longer(step, args), tile, args, thread) : run_cell(step, tile, args, thread);
  }

 private:
  static int64_t num_blocks(int64_t rows) { return (rows + kBlockRows - 1) / kBlockRows; }
  size_t gates_bytes() const { return aligned(static_cast<size_t>(kGates * hidden_) * sizeof(float)); }
  size_t row_bytes() const { return aligned(static_cast<size_t>(hidden_ + kGroupInputs) * sizeof(float)); }
  size_t order_bytes() const { return aligned(static_cast<size_t>(max_rows_) * sizeof(int32_t)); }
  size_t block_bytes() const { return aligned(kernels_.block_bytes(form_, kBlockRows, hidden_)); }

  int32_t* order(const OpArgs& args) const { return static_cast<int32_t*>(args.shared); }
  float* products(int64_t slot, const OpArgs& args) const {
    return reinterpret_cast<float*>(static_cast<uint8_t*>(args.shared) + order_bytes() +
                                    static_cast<size_t>(slot) * gates_bytes());
  }
  // The packed rows of slots [64 index, 64 index + 64) of which `active` there are in all.
  RowBlock block(int64_t index, int64_t active, const OpArgs& args) const {
    uint8_t* data = static_cast<uint8_t*>(args.shared) + order_bytes() +
                    static_cast<size_t>(max_rows_) * gates_bytes() + static_cast<size_t>(index) * block_bytes();
    return {data, form_, std::min(kBlockRows, active - index * kBlockRows), hidden_};
  }
  float* scratch_at(size_t offset, const OpArgs& args, int thread) const {
    return reinterpret_cast<float*>(static_cast<uint8_t*>(args.scratch[thread].data) +
                                    aligned(kernels_.scratch_bytes) + offset);
  }

  ProductTiles tiles(int64_t active, const OpArgs& args) const {
    return ProductTiles(*weight_, active, num_blocks(active), args.num_threads);
  }

  int64_t count_longer(int64_t step, const OpArgs& args) const {
    const Matrix& sequences = args.in[sequences_];
    int64_t count = 0;
    for (int64_t i = 0; i < sequences.rows; ++i) count += sequence_range(sequences, i).num_rows > step;
    return count;
  }

  void begin(const OpArgs& args, int thread) const {
    const Matrix& sequences = args.in[sequences_];
    int32_t* slots = order(args);
    for (int64_t i = 0; i < sequences.rows; ++i) slots[i] = static_cast<int32_t>(i);
    std::stable_sort(slots, slots + sequences.rows, [&](int32_t a, int32_t b) {
      return sequence_range(sequences, a).num_rows > sequence_range(sequences, b).num_rows;
    });
    for (int64_t slot = 0; slot < sequences.rows; ++slot)
      pack(args.in[state_].f32_row(slots[slot]), slot, sequences.rows, args, thread);
  }

  void pack(const float* h, int64_t slot, int64_t active, const OpArgs& args, int thread) const {
    const RowBlock to = block(slot / kBlockRows, active, args);
    const int64_t row = slot % kBlockRows;
    const RowSource source = {h, 0, hidden_, RowNorm::kNone, nullptr, nullptr, 0.0f};
    kernels_.pack_rows(&source, &to, 1, row, row + 1, scratch_at(gates_bytes(), args, thread));
  }

  void multiply(int64_t active, int64_t tile, const OpArgs& args, int thread) const {
    const ProductTiles shares = tiles(active, args);
    const ProductTile place = shares.at(tile);
    Product product = {};
    product.x = block(place.block, active, args);
    product.epilogue = {Activation::kNone, 1.0f, nullptr, nullptr, 0, nullptr,
                        static_cast<int64_t>(gates_bytes() / sizeof(float)), 0, false};
    shares.each_part(place, [&](size_t index, int64_t first, int64_t last) {
      const WeightPart& part = weight_->parts()[index];
      product.weight = weight_->panels(part);
      product.epilogue.out = products(place.block * kBlockRows, args) + part.first_output;
      product.epilogue.columns = part.n;
      kernels_.multiply(&product, first, last, args.scratch[thread].data);
    });
  }

  void run_cell(int64_t step, int64_t slot, const OpArgs& args, int thread) const {
    const int64_t sequence = order(args)[slot];
    const SequenceRange range = sequence_range(args.in[sequences_], sequence);
    const int64_t row = range.first_row + step;
    float* after = args.out[after_].f32_row(sequence);
    LstmCell cell = {};
    cell.count = cell.gate_stride = cell.product_stride = hidden_;
    cell.x_gates = args.in[x_gates_].f32_row(row);
    cell.products = products(slot, args);
    cell.c_before = (step == 0 ? args.in[state_].f32_row(sequence) : after) + hidden_;
    cell.gates = scratch_at(0, args, thread);
    cell.c = after + hidden_;
    cell.h = args.out[h_].f32_row(row);
    cells_.cell(&cell);
    if (step + 1 < range.num_rows) {
      pack(cell.h, slot, count_longer(step + 1, args), args, thread);
    } else {
      memcpy(after, cell.h, static_cast<size_t>(hidden_) * sizeof(float));
    }
  }

  const MatmulKernels& kernels_;
  const LstmKernels& cells_;
  std::shared_ptr<const Weight> weight_;
  const int x_gates_, sequences_, state_, h_, after_;
  const int64_t max_rows_;
  int64_t hidden_ = 0;
  RowForm form_ = RowForm::kF32;
};

}  // namespace

std::unique_ptr<Op> make_stateful_lstm(const NodeSpec& spec) { return std::make_unique<StatefulLstm>(spec); }

}  // namespace weft
