// A product with low-rank ones beside it: out = a * b^T (+ bias) (+ addend) + low * up^T, where low = factor * (a * down^T).
#pragma once

#include <stdint.h>

#include <vector>

#include "ops/gemm.h"
#include "ops/op.h"

namespace weft {

// Some low columns: they read some inputs of A, and add to some columns of the output.
struct LowPart {
  GemmSource down;                // element (low column, input - first_input)
  int64_t first_input, inputs;
  GemmSource up;                  // element (column - first_column, low column)
  int64_t first_column, columns;
  int64_t rank;
  int64_t low;                    // the first one's column in `low`
  int64_t packed_low = 0;         // and among the product's more inputs
};

// A phase packs all operands; the next makes the low columns from the packed rows, and packs them; the last has them as
// more inputs of the product, so that what they add needs no pass over the output.
class AdaptedProduct : public Op {
 public:
  AdaptedProduct(const NodeSpec& spec, const GemmSizes& most, float factor, std::vector<LowPart> parts);

  int num_phases() const override { return 3; }
  size_t scratch_bytes() const override;
  size_t shared_bytes() const override { return places(most_).end; }
  int64_t num_tiles(int phase, const OpArgs& args) const override;
  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override;

 protected:
  // The product of a run, without memory for packed operands and without more inputs.
  virtual GemmProduct product(const OpArgs& args) const = 0;

  const GemmKernels& kernels_;
  const GemmForm form_;

 private:
  // Bytes at which packed operands begin in shared memory.
  struct Places {
    size_t a, b, low, up, down, end;
  };
  Places places(const GemmSizes& sizes) const;
  uint8_t* shared_at(const OpArgs& args, size_t place) const { return static_cast<uint8_t*>(args.shared) + place; }
  int64_t strip_bytes(int64_t width, int64_t k) const { return gemm_strip_bytes(form_, width, k); }
  int64_t num_strips(int64_t columns) const;  // of columns

  GemmProduct packed_product(const OpArgs& args) const;
  int64_t num_up_tiles() const;
  void pack_up(int64_t tile, const OpArgs& args, float* values) const;
  void pack_down(size_t part, const OpArgs& args) const;
  void make_low(int64_t tile, const OpArgs& args, float* sums) const;
  void multiply_low(size_t part, const GemmProduct& product, GemmTile work, int64_t row) const;
  const uint8_t* down_of(size_t part, const uint8_t* first) const;

  const GemmSizes most_;
  const float factor_;
  std::vector<LowPart> parts_;
  int64_t more_inputs_ = 0;
  std::vector<GemmRange> ranges_;  // of the more inputs, for each strip of columns
};

}  // namespace weft
