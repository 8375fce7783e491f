#include "memory/kv_cache.h"
#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

// Stores row r's keys and values in slot slots[r] of one layer; no output. Slots of a run are distinct.
class KvWrite final : public Op {
 public:
  explicit KvWrite(const NodeSpec& spec)
      : k_(spec.input("k")), v_(spec.input("v")), slots_(spec.input("slots")), cache_(cache_of(spec)),
        layer_(integer(spec, "layer", 0)) {
    expect_columns(spec, "k", cache_->kv_heads() * cache_->head_dim());
    expect_columns(spec, "v", cache_->kv_heads() * cache_->head_dim());
    expect_columns(spec, "slots", 1);
  }

  bool row_wise() const override { return true; }
  int64_t num_rows(const OpArgs& args) const override { return args.in[k_].rows; }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[slots_], args.in[k_].rows, cache_->num_slots(), "slots");
  }

  void run_rows(int64_t begin, int64_t end, const OpArgs& args, int) const override {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t slot = *args.in[slots_].i32_row(row);
      const int64_t block = slot / KvCache::kBlockTokens, token = slot % KvCache::kBlockTokens;
      const float* k = args.in[k_].f32_row(row);
      const float* v = args.in[v_].f32_row(row);
      for (int64_t head = 0; head < cache_->kv_heads(); ++head) {
        char* keys = cache_->keys(layer_, head) + block * cache_->block_bytes();
        args.kernels->attention->write(k + head * cache_->head_dim(), v + head * cache_->head_dim(), cache_->head_dim(),
                                       token, cache_->dtype(), keys, keys + cache_->values_offset_bytes());
      }
    }
  }

 private:
  int k_, v_, slots_;
  std::shared_ptr<KvCache> cache_;
  int64_t layer_;
};

}  // namespace

std::unique_ptr<Op> make_kv_write(const NodeSpec& spec) { return std::make_unique<KvWrite>(spec); }

}  // namespace weft
