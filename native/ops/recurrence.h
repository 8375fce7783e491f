// What lstm and lstm_grad share: one phase for each step of time, over the sequences that are that long.
#pragma once

#include <string>

#include "ops/gemm_op.h"
#include "ops/op.h"

namespace weft {

// Phase 0 packs the recurrent weight, once in a run, as four matrices [H, H], one for each gate; every later phase is
// a step of all sequences, cut into tiles of units. What a step leaves for the next goes straight into packed rows,
// in one of two places in turn. Sequences are taken longest first, so that those of a step are the first ones.
class Recurrence : public Op {
 public:
  Recurrence(const NodeSpec& spec, bool is_backward);

  int num_phases() const override { return 1 + static_cast<int>(max_rows_); }
  size_t scratch_bytes() const override;
  size_t shared_bytes() const override;
  int64_t num_tiles(int phase, const OpArgs& args) const override;
  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override;

 protected:
  // One tile of a step: units [first_unit, first_unit + units) of the sequences that are longer than `step`.
  struct StepTile {
    int64_t step, first_unit, units;
    int64_t sequences;        // longer than `step`
    int64_t sequences_after;  // longer than step + 1
  };
  virtual void run_step(const StepTile& tile, const OpArgs& args, float* scratch) const = 0;

  // The row of `step` in the sequence that is `slot`-th longest.
  int64_t row_of(int64_t slot, int64_t step, const OpArgs& args) const;

  // out[gate of kGates][rows][kUnits] = packed rows of `step` times the gate's weights; `sums` as GemmTile has it.
  void multiply_gate(int gate, const StepTile& tile, int64_t rows, const OpArgs& args, bool is_first, bool is_last,
                     float* sums, float* out) const;
  // Packs values[row][units_per_tile] as units of the rows that the step after `step` in the run reads.
  void pack_state(int segment, const StepTile& tile, int64_t rows, const float* values, const OpArgs& args) const;

  int64_t units_per_tile() const { return kernels_.panel_columns; }
  size_t sums_floats() const;
  float* carried(const OpArgs& args) const;  // [sequences][hidden], of this run

  const GemmKernels& kernels_;
  const LstmKernels& cells_;
  const GemmForm form_;
  const GemmWeight weight_;
  const int64_t hidden_, max_rows_;
  const int sequences_;

 private:
  struct Places {
    size_t order, weights, state, carried, end;
  };
  Places places() const;
  uint8_t* state(int64_t step, int segment, const OpArgs& args) const;
  size_t gate_bytes() const;
  size_t segment_bytes() const;
  int64_t longest(const OpArgs& args) const;
  int64_t count_longer(int64_t step, const OpArgs& args) const;
  void sort_sequences(const OpArgs& args) const;
  void pack_weight(int64_t tile, const OpArgs& args, float* scratch) const;

  const bool is_backward_;
};

}  // namespace weft
