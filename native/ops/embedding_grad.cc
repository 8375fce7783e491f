#include <string.h>

#include <algorithm>

#include "memory/tensor.h"
#include "ops/checks.h"
#include "ops/ops.h"

namespace weft {

namespace {

constexpr int64_t kTilePlaces = 64;
constexpr int64_t kTileColumns = 256;

// A token and its place, row * tokens of a row + which; sorted by token, places of a token ascending.
struct TokenPlace {
  int32_t token;
  int32_t place;
  bool operator<(const TokenPlace& other) const {
    return token != other.token ? token < other.token : place < other.place;
  }
};

// d_table[t] += the sum over places of token t, ascending, of their part of d_out
//
// Phase 0 sorts the places; a tile of phase 1 has the tokens that begin among 64 of them, and some columns.
class EmbeddingGrad final : public Op {
 public:
  explicit EmbeddingGrad(const NodeSpec& spec)
      : tokens_(spec.input("tokens")), d_out_(spec.input("d_out")), width_(columns_of(spec, "tokens")),
        columns_(columns_of(spec, "d_out") / width_), max_rows_(spec.max_rows) {
    d_table_ = spec.tensor_or_null("d_table");
    if (!d_table_) refuse_node(spec, "the tensor 'd_table'", "none");
    spec.tensor_or_null("d_table", d_table_->rows(), columns_);
    expect_columns(spec, "d_out", width_ * columns_);
  }

  int num_phases() const override { return 2; }
  size_t scratch_bytes() const override { return kTileColumns * sizeof(float); }
  size_t shared_bytes() const override { return static_cast<size_t>(max_rows_ * width_) * sizeof(TokenPlace); }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[tokens_], args.in[d_out_].rows, d_table_->rows(), "tokens");
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    const int64_t places = args.in[tokens_].rows * width_;
    if (phase == 0) return places > 0 ? 1 : 0;
    return (places + kTilePlaces - 1) / kTilePlaces * column_tiles();
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    if (phase == 0) return sort_places(args);
    const TokenPlace* sorted = static_cast<const TokenPlace*>(args.shared);
    const int64_t places = args.in[tokens_].rows * width_;
    args.scratch[thread].owner = nullptr;
    const int64_t first_column = tile % column_tiles() * kTileColumns;
    const int64_t begin = tile / column_tiles() * kTilePlaces, end = std::min(places, begin + kTilePlaces);
    int64_t index = begin;
    while (index < end && index > 0 && sorted[index].token == sorted[index - 1].token) ++index;
    while (index < end) index = add_token(sorted, index, places, first_column, args, thread);
  }

 private:
  int64_t column_tiles() const { return (columns_ + kTileColumns - 1) / kTileColumns; }

  void sort_places(const OpArgs& args) const {
    TokenPlace* sorted = static_cast<TokenPlace*>(args.shared);
    const int64_t places = args.in[tokens_].rows * width_;
    for (int64_t place = 0; place < places; ++place)
      sorted[place] = {args.in[tokens_].i32_row(place / width_)[place % width_], static_cast<int32_t>(place)};
    std::sort(sorted, sorted + places);
  }

  const float* gradient(const OpArgs& args, int32_t place) const {
    return args.in[d_out_].f32_row(place / width_) + place % width_ * columns_;
  }

  // Adds the gradient of the token that begins at `index`; gives the index of the next.
  int64_t add_token(const TokenPlace* sorted, int64_t index, int64_t places, int64_t first_column, const OpArgs& args,
                    int thread) const {
    float* sum = static_cast<float*>(args.scratch[thread].data);
    const int64_t count = std::min(kTileColumns, columns_ - first_column);
    const int32_t token = sorted[index].token;
    memcpy(sum, gradient(args, sorted[index].place) + first_column, static_cast<size_t>(count) * sizeof(float));
    for (++index; index < places && sorted[index].token == token; ++index)
      args.kernels->rows->add(sum, gradient(args, sorted[index].place) + first_column, sum, count);
    float* total = d_table_->row(token) + first_column;
    args.kernels->rows->add(total, sum, total, count);
    return index;
  }

  int tokens_, d_out_;
  int64_t width_, columns_, max_rows_;
  std::shared_ptr<Tensor> d_table_;
};

}  // namespace

std::unique_ptr<Op> make_embedding_grad(const NodeSpec& spec) { return std::make_unique<EmbeddingGrad>(spec); }

}  // namespace weft
