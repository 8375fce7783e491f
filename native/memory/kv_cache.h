// Keys and values of earlier tokens, in blocks that any sequence can take.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/types.h"
#include "memory/region.h"

namespace weft {

// `num_blocks` blocks of 32 tokens. A block holds, for each layer and each key/value head, the keys as
// [head_dim][32] (tokens side by side) followed by the values as [32][head_dim]; all of a block lies together,
// so a block that is not used costs no memory and copying one is one copy. In bfloat16 pairs lie together, of
// features in keys and of tokens in values (see AttentionTile). Slot s is token s % 32 of block s / 32. Every
// element is finite at any time: zero at first, and what kv_write stores is saturated.
//
// Not synchronised: a run writes the slots that it was given and reads the blocks of its sequences; whoever
// hands out blocks keeps runs apart.
class KvCache {
 public:
  static constexpr int64_t kBlockTokens = 32;

  // dtype: kF16, kBF16 or kF32. Throws Error(kValue) for sizes that are not positive or another type, and
  // Error(kMemory), before asking for memory, when the cache is larger than what is available.
  KvCache(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t num_blocks, DType dtype);

  int64_t layers() const { return layers_; }
  int64_t kv_heads() const { return kv_heads_; }
  int64_t head_dim() const { return head_dim_; }
  int64_t num_blocks() const { return num_blocks_; }
  int64_t num_slots() const { return num_blocks_ * kBlockTokens; }
  DType dtype() const { return dtype_; }

  int64_t block_bytes() const { return block_bytes_; }  // of all layers: the distance between blocks
  int64_t values_offset_bytes() const { return values_offset_bytes_; }  // from keys to values of one head
  int64_t nbytes() const { return block_bytes_ * num_blocks_; }

  // The keys of one head of one layer in block 0; those of block b are b * block_bytes() further.
  char* keys(int64_t layer, int64_t kv_head) const;

  // Copies all layers of block `from` to block `to`. Throws Error(kValue) when either does not exist.
  void copy_block(int64_t from, int64_t to);
  // Sets all of a block to zero. Throws Error(kValue) when it does not exist.
  void zero_block(int64_t block);

 private:
  char* block(int64_t index) const;

  int64_t layers_, kv_heads_, head_dim_, num_blocks_;
  DType dtype_;
  int64_t values_offset_bytes_ = 0, head_bytes_ = 0, block_bytes_ = 0;
  Region memory_;
};

}  // namespace weft
