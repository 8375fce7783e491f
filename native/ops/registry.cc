#include "ops/ops.h"

namespace weft {

namespace {

struct Entry {
  const char* name;
  OpFactory factory;
};

constexpr Entry kOps[] = {
    {"adapted_linear", make_adapted_linear},
    {"adapted_linear_input_grad", make_adapted_linear_input_grad},
    {"adapted_linear_weight_grad", make_adapted_linear_weight_grad},
    {"add", make_add},
    {"attention", make_attention},
    {"concat", make_concat},
    {"cross_entropy", make_cross_entropy},
    {"cross_entropy_grad", make_cross_entropy_grad},
    {"dropout", make_dropout},
    {"embedding", make_embedding},
    {"embedding_grad", make_embedding_grad},
    {"gather_rows", make_gather_rows},
    {"gelu", make_gelu},
    {"gelu_grad", make_gelu_grad},
    {"kv_write", make_kv_write},
    {"layer_norm", make_layer_norm},
    {"layer_norm_grad", make_layer_norm_grad},
    {"linear", make_linear},
    {"linear_input_grad", make_linear_input_grad},
    {"linear_weight_grad", make_linear_weight_grad},
    {"log_probs", make_log_probs},
    {"low_rank", make_low_rank},
    {"lstm", make_lstm},
    {"lstm_grad", make_lstm_grad},
    {"rms_norm", make_rms_norm},
    {"rms_norm_grad", make_rms_norm_grad},
    {"rotary", make_rotary},
    {"sample", make_sample},
    {"scale", make_scale},
    {"sequence_attention", make_sequence_attention},
    {"sequence_attention_grad", make_sequence_attention_grad},
    {"shift_rows", make_shift_rows},
    {"silu_gate", make_silu_gate},
    {"silu_gate_grad", make_silu_gate_grad},
    {"squared_error", make_squared_error},
    {"stateful_lstm", make_stateful_lstm},
    {"tanh", make_tanh},
    {"tanh_grad", make_tanh_grad},
};

}  // namespace

OpFactory find_op(const std::string& op) {
  for (const Entry& entry : kOps)
    if (op == entry.name) return entry.factory;
  return nullptr;
}

}  // namespace weft
