// What sequence_attention and its gradient have in common.
#pragma once

#include "ops/op.h"
#include "ops/sequences.h"

namespace weft {

// The operands and attributes that both have.
struct SequenceAttentionNode {
  explicit SequenceAttentionNode(const NodeSpec& spec);

  // The query heads of a key/value head in a sequence.
  SequenceHeads at(const OpArgs& args, const SequenceRange& range, int64_t kv_head) const;

  int q, k, v, sequences;
  int64_t heads, kv_heads, group, head_dim, window, max_rows;
  float scale;
  bool rounds_to_bf16;
};

// The first multiple of 64 bytes in `memory`.
float* aligned_floats(void* memory);

}  // namespace weft
