// The factories of all operations. Each throws Error(kPlan) when its node does not fit; the operands and
// attributes of each are those of the class with the same name in src/weft/ops.
#pragma once

#include <memory>

#include "ops/op.h"

namespace weft {

std::unique_ptr<Op> make_adapted_linear(const NodeSpec& spec);
std::unique_ptr<Op> make_adapted_linear_input_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_adapted_linear_weight_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_add(const NodeSpec& spec);
std::unique_ptr<Op> make_attention(const NodeSpec& spec);
std::unique_ptr<Op> make_concat(const NodeSpec& spec);
std::unique_ptr<Op> make_cross_entropy(const NodeSpec& spec);
std::unique_ptr<Op> make_cross_entropy_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_dropout(const NodeSpec& spec);
std::unique_ptr<Op> make_embedding(const NodeSpec& spec);
std::unique_ptr<Op> make_embedding_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_gather_rows(const NodeSpec& spec);
std::unique_ptr<Op> make_gelu(const NodeSpec& spec);
std::unique_ptr<Op> make_gelu_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_kv_write(const NodeSpec& spec);
std::unique_ptr<Op> make_layer_norm(const NodeSpec& spec);
std::unique_ptr<Op> make_layer_norm_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_linear(const NodeSpec& spec);
std::unique_ptr<Op> make_linear_input_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_linear_weight_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_log_probs(const NodeSpec& spec);
std::unique_ptr<Op> make_low_rank(const NodeSpec& spec);
std::unique_ptr<Op> make_lstm(const NodeSpec& spec);
std::unique_ptr<Op> make_lstm_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_rms_norm(const NodeSpec& spec);
std::unique_ptr<Op> make_rms_norm_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_rotary(const NodeSpec& spec);
std::unique_ptr<Op> make_sample(const NodeSpec& spec);
std::unique_ptr<Op> make_scale(const NodeSpec& spec);
std::unique_ptr<Op> make_sequence_attention(const NodeSpec& spec);
std::unique_ptr<Op> make_sequence_attention_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_shift_rows(const NodeSpec& spec);
std::unique_ptr<Op> make_silu_gate(const NodeSpec& spec);
std::unique_ptr<Op> make_silu_gate_grad(const NodeSpec& spec);
std::unique_ptr<Op> make_squared_error(const NodeSpec& spec);
std::unique_ptr<Op> make_stateful_lstm(const NodeSpec& spec);
std::unique_ptr<Op> make_tanh(const NodeSpec& spec);
std::unique_ptr<Op> make_tanh_grad(const NodeSpec& spec);

}  // namespace weft
