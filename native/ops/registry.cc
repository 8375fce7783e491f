#include "ops/ops.h"

namespace weft {

namespace {

struct Entry {
  const char* name;
  OpFactory factory;
};

constexpr Entry kOps[] = {
    {"add", make_add},
    {"attention", make_attention},
    {"concat", make_concat},
    {"embedding", make_embedding},
    {"gather_rows", make_gather_rows},
    {"gelu", make_gelu},
    {"kv_write", make_kv_write},
    {"layer_norm", make_layer_norm},
    {"linear", make_linear},
    {"linear_input_grad", make_linear_input_grad},
    {"linear_weight_grad", make_linear_weight_grad},
    {"log_probs", make_log_probs},
    {"rms_norm", make_rms_norm},
    {"rotary", make_rotary},
    {"sample", make_sample},
    {"scale", make_scale},
    {"silu_gate", make_silu_gate},
};

}  // namespace

OpFactory find_op(const std::string& op) {
  for (const Entry& entry : kOps)
    if (op == entry.name) return entry.factory;
  return nullptr;
}

}  // namespace weft
