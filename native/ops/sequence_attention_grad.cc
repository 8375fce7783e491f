#include <string.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/ops.h"
#include "ops/sequence_attention.h"

namespace weft {

namespace {

constexpr int64_t kLeastChunk = 128;
constexpr int64_t kMostChunks = 8;
constexpr int64_t kReducedRows = 32;

// How the tokens of a sequence are cut into chunks: a function of its length alone, as sums depend on it.
struct Chunks {
  int64_t size, count;

  explicit Chunks(int64_t rows) {
    const int64_t even = (rows + kMostChunks - 1) / kMostChunks;
    size = std::max(kLeastChunk, (even + 63) / 64 * 64);
    count = (rows + size - 1) / size;
  }
  // Rows of the partial sums of chunks 1 to `chunk` - 1; each has the rows from its first token on.
  int64_t rows_before(int64_t chunk, int64_t rows) const {
    return chunk < 2 ? 0 : (chunk - 1) * rows - size * (chunk * (chunk - 1) / 2);
  }
};

struct Place {
  int64_t sequence, index, first_partial;
};

// The gradients of sequence_attention.
//
// Phase 0: a tile is a chunk of a sequence's tokens and one key/value head: it gives their d_k and d_v, and adds
// to d_q of all rows that see them; the first chunk in place, the others in partial sums [rows][heads * head_dim].
// Phase 1 adds these to d_q in the order of the chunks.
class SequenceAttentionGrad final : public Op {
 public:
  explicit SequenceAttentionGrad(const NodeSpec& spec)
      : node_(spec), out_(spec.input("out")), log_sum_exp_(spec.input("log_sum_exp")), d_out_(spec.input("d_out")),
        d_q_(spec.output("d_q")), d_k_(spec.output("d_k")), d_v_(spec.output("d_v")),
        width_(node_.heads * node_.head_dim), kernels_(spec.kernels->sequence_attention) {
    for (const char* name : {"out", "d_out", "d_q"}) expect_columns(spec, name, width_);
    for (const char* name : {"d_k", "d_v"}) expect_columns(spec, name, node_.kv_heads * node_.head_dim);
    expect_columns(spec, "log_sum_exp", node_.heads);
  }

  int num_phases() const override { return 2; }
  size_t scratch_bytes() const override {
    return static_cast<size_t>(kernels_->backward_floats(node_.head_dim)) * sizeof(float) + 64;
  }
  // With n chunks the partial sums have at most (n - 1) / 2 times the rows, and none without a second chunk.
  size_t shared_bytes() const override {
    if (node_.max_rows <= kLeastChunk) return 0;
    return static_cast<size_t>(node_.max_rows * (kMostChunks - 1) / 2 * width_) * sizeof(float) + 64;
  }

  void check(const OpArgs& args) const override {
    expect_sequences(args.in[node_.sequences], args.in[node_.q].rows, "sequence_attention_grad");
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    if (phase == 1) return needs_sums(args) ? (args.in[node_.q].rows + kReducedRows - 1) / kReducedRows : 0;
    int64_t count = 0;
    for (int64_t index = 0; index < args.in[node_.sequences].rows; ++index) count += Chunks(rows_of(args, index)).count;
    return count * node_.kv_heads;
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    if (phase == 1) return add_partials(tile * kReducedRows, args);
    args.scratch[thread].owner = nullptr;
    const Place place = place_of(tile / node_.kv_heads, args);
    const SequenceRange range = sequence_range(args.in[node_.sequences], place.sequence);
    const Chunks chunks(range.num_rows);
    const int64_t kv_head = tile % node_.kv_heads, first_token = place.index * chunks.size;
    const SequenceGradients gradients = gradients_of(args, range, place, kv_head, first_token);
    const size_t bytes = static_cast<size_t>(node_.group * node_.head_dim) * sizeof(float);
    for (int64_t row = 0; row < range.num_rows - first_token; ++row) memset(gradients.d_q + row * gradients.d_q_stride, 0, bytes);
    kernels_->backward(node_.at(args, range, kv_head), gradients, first_token,
                       std::min(range.num_rows, first_token + chunks.size), aligned_floats(args.scratch[thread].data));
  }

 private:
  int64_t rows_of(const OpArgs& args, int64_t index) const {
    return sequence_range(args.in[node_.sequences], index).num_rows;
  }

  bool needs_sums(const OpArgs& args) const {
    for (int64_t index = 0; index < args.in[node_.sequences].rows; ++index)
      if (Chunks(rows_of(args, index)).count > 1) return true;
    return false;
  }

  // Of the `chunk`-th chunk of all sequences.
  Place place_of(int64_t chunk, const OpArgs& args) const {
    Place place = {0, chunk, 0};
    for (;; ++place.sequence) {
      const int64_t rows = rows_of(args, place.sequence);
      const Chunks chunks(rows);
      if (place.index < chunks.count) {
        place.first_partial += chunks.rows_before(place.index, rows);
        return place;
      }
      place.index -= chunks.count;
      place.first_partial += chunks.rows_before(chunks.count, rows);
    }
  }

  SequenceGradients gradients_of(const OpArgs& args, const SequenceRange& range, const Place& place, int64_t kv_head,
                                 int64_t first_token) const {
    const int64_t column = kv_head * node_.group * node_.head_dim, row = range.first_row;
    const Matrix &out = args.in[out_], &d_out = args.in[d_out_], &log_sum_exp = args.in[log_sum_exp_];
    const Matrix &d_q = args.out[d_q_], &d_k = args.out[d_k_], &d_v = args.out[d_v_];
    SequenceGradients gradients;
    gradients.out = out.f32_row(row) + column;
    gradients.d_out = d_out.f32_row(row) + column;
    gradients.log_sum_exp = log_sum_exp.f32_row(row) + kv_head * node_.group;
    gradients.out_stride = out.row_stride;
    gradients.d_out_stride = d_out.row_stride;
    gradients.log_sum_exp_stride = log_sum_exp.row_stride;
    const bool is_first = place.index == 0;
    gradients.d_q = column + (is_first ? d_q.f32_row(row + first_token) : partial(args, place.first_partial));
    gradients.d_q_stride = is_first ? d_q.row_stride : width_;
    gradients.d_k = d_k.f32_row(row) + kv_head * node_.head_dim;
    gradients.d_v = d_v.f32_row(row) + kv_head * node_.head_dim;
    gradients.d_k_stride = d_k.row_stride;
    gradients.d_v_stride = d_v.row_stride;
    return gradients;
  }

  float* partial(const OpArgs& args, int64_t row) const { return aligned_floats(args.shared) + row * width_; }

  void add_partials(int64_t begin, const OpArgs& args) const {
    const Matrix& sequences = args.in[node_.sequences];
    const int64_t end = std::min(args.in[node_.q].rows, begin + kReducedRows);
    int64_t first_partial = 0;  // of the sequence
    for (int64_t index = 0; index < sequences.rows; ++index) {
      const SequenceRange range = sequence_range(sequences, index);
      const Chunks chunks(range.num_rows);
      const int64_t last = std::min(end, range.first_row + range.num_rows);
      for (int64_t row = std::max(begin, range.first_row); row < last; ++row)
        add_row(row - range.first_row, range, chunks, first_partial, args);
      first_partial += chunks.rows_before(chunks.count, range.num_rows);
    }
  }

  void add_row(int64_t row, const SequenceRange& range, const Chunks& chunks, int64_t first_partial,
               const OpArgs& args) const {
    float* d_q = args.out[d_q_].f32_row(range.first_row + row);
    for (int64_t chunk = 1; chunk * chunks.size <= row; ++chunk) {
      const int64_t at = first_partial + chunks.rows_before(chunk, range.num_rows) + row - chunk * chunks.size;
      args.kernels->rows->add(d_q, partial(args, at), d_q, width_);
    }
  }

  SequenceAttentionNode node_;
  int out_, log_sum_exp_, d_out_, d_q_, d_k_, d_v_;
  int64_t width_;
  const SequenceAttentionKernels* kernels_;
};

}  // namespace

std::unique_ptr<Op> make_sequence_attention_grad(const NodeSpec& spec) {
  return std::make_unique<SequenceAttentionGrad>(spec);
}

}  // namespace weft
