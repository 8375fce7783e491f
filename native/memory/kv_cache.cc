#include "memory/kv_cache.h"

#include <string.h>

#include <string>

#include "base/error.h"
#include "memory/available.h"

namespace weft {

namespace {

void check_sizes(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t num_blocks, DType dtype) {
  if (layers < 1 || kv_heads < 1 || head_dim < 1 || num_blocks < 1) {
    throw Error(ErrorKind::kValue, "a KV cache expects positive sizes, got layers " + std::to_string(layers) +
                                       ", kv_heads " + std::to_string(kv_heads) + ", head_dim " +
                                       std::to_string(head_dim) + ", num_blocks " + std::to_string(num_blocks) +
                                       "; check the model's configuration");
  }
  if (dtype != DType::kF16 && dtype != DType::kBF16 && dtype != DType::kF32)
    throw Error(ErrorKind::kValue, "a KV cache expects elements of f16, bf16 or f32; choose one of them");
}

[[noreturn]] void refuse(const std::string& wanted, int64_t available) {
  throw Error(ErrorKind::kMemory, "the KV cache needs " + wanted + " bytes, and " + std::to_string(available) +
                                      " are available; use a shorter context, fewer requests at once or f16");
}

// The product of positive factors. Throws Error(kMemory) when it does not fit the available memory.
int64_t checked_bytes(std::initializer_list<int64_t> factors) {
  const int64_t available = available_bytes();
  int64_t product = 1;
  for (int64_t factor : factors)
    if (__builtin_mul_overflow(product, factor, &product)) refuse("more than 2^63", available);
  if (product > available) refuse(std::to_string(product), available);
  return product;
}

}  // namespace

KvCache::KvCache(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t num_blocks, DType dtype)
    : layers_(layers), kv_heads_(kv_heads), head_dim_(head_dim), num_blocks_(num_blocks), dtype_(dtype) {
  check_sizes(layers, kv_heads, head_dim, num_blocks, dtype);
  if (head_dim > INT64_MAX / 4) refuse("more than 2^63", available_bytes());  // of which twice as many are a sum
  const int64_t element_bytes = static_cast<int64_t>(dtype_bytes(dtype));
  const int64_t key_dim = dtype == DType::kBF16 ? head_dim + head_dim % 2 : head_dim;  // whole pairs
  const int64_t bytes = checked_bytes({layers, kv_heads, key_dim + head_dim, kBlockTokens, element_bytes, num_blocks});
  values_offset_bytes_ = key_dim * kBlockTokens * element_bytes;
  head_bytes_ = (key_dim + head_dim) * kBlockTokens * element_bytes;
  block_bytes_ = layers * kv_heads * head_bytes_;
  memory_ = Region(static_cast<size_t>(bytes), "the KV cache", Pages::kHuge);
}

char* KvCache::keys(int64_t layer, int64_t kv_head) const {
  return static_cast<char*>(memory_.data()) + (layer * kv_heads_ + kv_head) * head_bytes_;
}

char* KvCache::block(int64_t index) const {
  if (index < 0 || index >= num_blocks_) {
    throw Error(ErrorKind::kValue, "expected a block from 0 to " + std::to_string(num_blocks_ - 1) + ", got " +
                                       std::to_string(index) + "; use blocks of this cache");
  }
  return static_cast<char*>(memory_.data()) + index * block_bytes_;
}

void KvCache::copy_block(int64_t from, int64_t to) {
  const char* source = block(from);
  char* target = block(to);
  if (from != to) memcpy(target, source, static_cast<size_t>(block_bytes_));
}

void KvCache::zero_block(int64_t index) { memset(block(index), 0, static_cast<size_t>(block_bytes_)); }

}  // namespace weft
