// An operation that is one product: a phase that packs both operands into shared memory, and one that multiplies.
#pragma once

#include <memory>
#include <string>

#include "ops/gemm.h"
#include "ops/op.h"

namespace weft {

// How products of a node round their factors, by its attribute `compute`: "f32" or "bf16".
GemmForm gemm_form(const NodeSpec& spec);

// A weight [n, k] of a product: a tensor, or packed. Throws Error(kPlan) unless the node has one.
struct GemmWeight {
  GemmWeight(const NodeSpec& spec, const std::string& name);
  // As the operand of x * transpose of weight, or of d_out * weight.
  GemmOperand forward() const;
  GemmOperand backward() const;

  int64_t n, k;
  std::shared_ptr<Tensor> tensor;
  std::shared_ptr<const Weight> packed;
};

// The matrix that a product is added to.
void add_residual(GemmProduct& work, const Matrix& residual);

class GemmOp : public Op {
 public:
  GemmOp(const NodeSpec& spec, const GemmSizes& most);

  int num_phases() const override { return 2; }
  size_t scratch_bytes() const override;
  size_t shared_bytes() const override;
  int64_t num_tiles(int phase, const OpArgs& args) const override;
  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override;

 protected:
  // The product of a run, without memory for packed operands.
  virtual GemmProduct product(const OpArgs& args) const = 0;

  const GemmKernels& kernels_;
  const GemmForm form_;

 private:
  GemmProduct packed_product(const OpArgs& args) const;

  const GemmSizes most_;
};

}  // namespace weft
