#include <string.h>

#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/recurrence.h"
#include "ops/sequences.h"

namespace weft {

namespace {

constexpr int kGates = 4;

// Within each sequence, from its last step to its first: the gradients of x_gates. Each step's packed rows are read
// by the step before it in time, whose parity is the same as that of the step after.
class LstmGrad final : public Recurrence {
 public:
  explicit LstmGrad(const NodeSpec& spec)
      : Recurrence(spec, true), d_h_(spec.input("d_h")), gates_(spec.input("gates")), c_(spec.input("c")),
        d_gates_(spec.output("d_gates")) {
    for (const char* name : {"gates", "d_gates"}) expect_columns(spec, name, kGates * hidden_);
    for (const char* name : {"d_h", "c"}) expect_columns(spec, name, hidden_);
  }

  void check(const OpArgs& args) const override {
    const int64_t rows = args.in[gates_].rows;
    expect_rows(args.in[d_h_].rows, rows, "lstm_grad's d_h");
    expect_rows(args.in[c_].rows, rows, "lstm_grad's c");
    expect_sequences(args.in[sequences_], rows, "lstm_grad");
  }

 protected:
  void run_step(const StepTile& tile, const OpArgs& args, float* scratch) const override {
    float* sums = scratch;
    float* d_h_after = sums + sums_floats();
    float* d_gates = d_h_after + kGates * sums_floats();
    const int64_t units = units_per_tile(), gate_floats = tile.sequences * units;
    if (tile.sequences_after > 0)
      for (int gate = 0; gate < kGates; ++gate)
        multiply_gate(gate, tile, tile.sequences_after, args, gate == 0, gate + 1 == kGates, sums, d_h_after);
    for (int64_t slot = 0; slot < tile.sequences; ++slot) {
      const int64_t row = row_of(slot, tile.step, args), unit = tile.first_unit;
      LstmCellGrad cell = {};
      cell.count = tile.units;
      cell.gate_stride = hidden_;
      cell.d_h = args.in[d_h_].f32_row(row) + unit;
      cell.d_h_after = slot < tile.sequences_after ? d_h_after + slot * units : nullptr;
      cell.gates = args.in[gates_].f32_row(row) + unit;
      cell.c = args.in[c_].f32_row(row) + unit;
      cell.c_before = tile.step > 0 ? args.in[c_].f32_row(row - 1) + unit : nullptr;
      cell.d_c = carried(args) + slot * hidden_ + unit;
      cell.d_gates = args.out[d_gates_].f32_row(row) + unit;
      cells_.cell_grad(&cell);
      for (int gate = 0; gate < kGates; ++gate)
        memcpy(d_gates + gate * gate_floats + slot * units, cell.d_gates + gate * hidden_,
               static_cast<size_t>(tile.units) * sizeof(float));
    }
    if (tile.step == 0) return;
    for (int gate = 0; gate < kGates; ++gate)
      pack_state(gate, tile, tile.sequences, d_gates + gate * gate_floats, args);
  }

 private:
  const int d_h_, gates_, c_, d_gates_;
};

}  // namespace

std::unique_ptr<Op> make_lstm_grad(const NodeSpec& spec) { return std::make_unique<LstmGrad>(spec); }

}  // namespace weft
