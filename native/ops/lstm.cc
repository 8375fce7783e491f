#include <string.h>

#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/recurrence.h"
#include "ops/sequences.h"

namespace weft {

namespace {

constexpr int kGates = 4;

// Within each sequence, step after step: gates of x_gates[r] + h[r - 1] * weight^T; c and h of them.
class Lstm final : public Recurrence {
 public:
  explicit Lstm(const NodeSpec& spec)
      : Recurrence(spec, false), x_gates_(spec.input("x_gates")), h_(spec.output("h")), c_(spec.output("c")),
        gates_(spec.output("gates")) {
    for (const char* name : {"x_gates", "gates"}) expect_columns(spec, name, kGates * hidden_);
    for (const char* name : {"h", "c"}) expect_columns(spec, name, hidden_);
  }

  void check(const OpArgs& args) const override {
    expect_sequences(args.in[sequences_], args.in[x_gates_].rows, "lstm");
  }

 protected:
  void run_step(const StepTile& tile, const OpArgs& args, float* scratch) const override {
    float* sums = scratch;
    float* products = sums + sums_floats();
    float* h = products + kGates * sums_floats();
    const int64_t gate_floats = tile.sequences * units_per_tile();
    if (tile.step > 0)
      for (int gate = 0; gate < kGates; ++gate)
        multiply_gate(gate, tile, tile.sequences, args, true, true, sums, products + gate * gate_floats);
    for (int64_t slot = 0; slot < tile.sequences; ++slot) {
      const int64_t row = row_of(slot, tile.step, args), unit = tile.first_unit;
      LstmCell cell = {};
      cell.count = tile.units;
      cell.gate_stride = hidden_;
      cell.x_gates = args.in[x_gates_].f32_row(row) + unit;
      cell.products = tile.step > 0 ? products + slot * units_per_tile() : nullptr;
      cell.product_stride = gate_floats;
      cell.c_before = tile.step > 0 ? args.out[c_].f32_row(row - 1) + unit : nullptr;
      cell.gates = args.out[gates_].f32_row(row) + unit;
      cell.c = args.out[c_].f32_row(row) + unit;
      cell.h = args.out[h_].f32_row(row) + unit;
      cells_.cell(&cell);
      memcpy(h + slot * units_per_tile(), cell.h, static_cast<size_t>(tile.units) * sizeof(float));
    }
    pack_state(0, tile, tile.sequences_after, h, args);
  }

 private:
  const int x_gates_, h_, c_, gates_;
};

}  // namespace

std::unique_ptr<Op> make_lstm(const NodeSpec& spec) { return std::make_unique<Lstm>(spec); }

}  // namespace weft
