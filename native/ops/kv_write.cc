#include <algorithm>

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
    const AttentionKernels& kernels = *args.kernels->attention;
    for (int64_t row = begin; row < end; ++row) {
      if (row + 1 < end) ask_for(row + 1, args, false);
      const float* k = args.in[k_].f32_row(row);
      const float* v = args.in[v_].f32_row(row);
      const int64_t head_dim = cache_->head_dim();
      for (int64_t head = 0; head < cache_->kv_heads(); ++head) {
        const Place to = place(row, head, args);
        kernels.write(k + head * head_dim, v + head * head_dim, head_dim, to.token, cache_->dtype(), to.keys,
                      to.keys + cache_->values_offset_bytes());
      }
    }
  }

  // A step's slots were last touched a step ago: they are far away, all of them.
  void ask_for_rows(int64_t begin, int64_t end, const OpArgs& args) const override {
    for (int64_t row = begin; row < std::min(end, begin + kMostAsked); ++row) ask_for(row, args, true);
  }

 private:
  static constexpr int64_t kMostAsked = 16;  // rows, whose slots leave the second cache room for others
  // Where a row's key and value of one head go: the block's keys, and which of its tokens it is.
  struct Place {
    char* keys;
    int64_t token;
  };
  Place place(int64_t row, int64_t head, const OpArgs& args) const {
    const int64_t slot = *args.in[slots_].i32_row(row);
    return {cache_->keys(layer_, head) + slot / KvCache::kBlockTokens * cache_->block_bytes(),
            slot % KvCache::kBlockTokens};
  }

  void ask_for(int64_t row, const OpArgs& args, bool early) const {
    for (int64_t head = 0; head < cache_->kv_heads(); ++head) {
      const Place at = place(row, head, args);
      args.kernels->attention->ask_for_token(cache_->head_dim(), at.token, cache_->dtype(), at.keys,
                                             at.keys + cache_->values_offset_bytes(), early);
    }
  }

  int k_, v_, slots_;
  std::shared_ptr<KvCache> cache_;
  int64_t layer_;
};

}  // namespace

std::unique_ptr<Op> make_kv_write(const NodeSpec& spec) { return std::make_unique<KvWrite>(spec); }

}  // namespace weft
