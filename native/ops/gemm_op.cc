#include "ops/gemm_op.h"

#include "memory/tensor.h"
#include "ops/checks.h"

namespace weft {

GemmForm gemm_form(const NodeSpec& spec) {
  const std::string compute = spec.string_or("compute", "f32");
  if (compute == "f32") return GemmForm::kF32;
  if (compute == "bf16") return spec.kernels->gemm->bf16_form;
  refuse_node(spec, "compute 'f32' or 'bf16'", "'" + compute + "'");
}

GemmWeight::GemmWeight(const NodeSpec& spec, const std::string& name) {
  const auto found = spec.tensors.find(name);
  if (found != spec.tensors.end()) {
    tensor = found->second;
    n = tensor->rows();
    k = tensor->columns();
    return;
  }
  n = spec.weight(name)->n();
  k = spec.weight(name)->k();
  packed = spec.weights.at(name);
}

GemmOperand GemmWeight::forward() const {
  return tensor ? GemmOperand::by_row(tensor->data(), k) : GemmOperand::packed(*packed, false);
}

GemmOperand GemmWeight::backward() const {
  return tensor ? GemmOperand::by_input(tensor->data(), k) : GemmOperand::packed(*packed, true);
}

void add_residual(GemmProduct& work, const Matrix& residual) {
  work.addend = residual.f32_row(0);
  work.addend_stride = residual.row_stride;
}

GemmOp::GemmOp(const NodeSpec& spec, const GemmSizes& most)
    : kernels_(*spec.kernels->gemm), form_(gemm_form(spec)), most_(most) {}

size_t GemmOp::scratch_bytes() const { return GemmWork::scratch_bytes(kernels_, form_, most_, true, true); }

size_t GemmOp::shared_bytes() const {
  return GemmWork::packed_a_bytes(kernels_, form_, most_) + GemmWork::packed_b_bytes(kernels_, form_, most_);
}

GemmProduct GemmOp::packed_product(const OpArgs& args) const {
  GemmProduct work = product(args);
  work.packed_a = static_cast<uint8_t*>(args.shared);
  work.packed_b = work.packed_a + GemmWork::packed_a_bytes(kernels_, form_, work.sizes);
  return work;
}

int64_t GemmOp::num_tiles(int phase, const OpArgs& args) const {
  const GemmProduct work = packed_product(args);
  if (work.sizes.rows == 0 || work.sizes.inputs == 0) return 0;
  const GemmWork cut(kernels_, work, args.num_threads);
  return phase == 0 ? cut.num_pack_tiles() : cut.num_tiles();
}

void GemmOp::run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const {
  const GemmProduct work = packed_product(args);
  const GemmWork cut(kernels_, work, args.num_threads);
  phase == 0 ? cut.pack(tile, args.scratch[thread].data) : cut.multiply(tile, args.scratch[thread].data);
}

}  // namespace weft
