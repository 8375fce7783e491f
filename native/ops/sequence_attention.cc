#include "ops/sequence_attention.h"

#include <string.h>

#include <algorithm>

#include "ops/checks.h"
#include "ops/gemm_op.h"
#include "ops/ops.h"
#include "ops/sequences.h"

namespace weft {

SequenceAttentionNode::SequenceAttentionNode(const NodeSpec& spec)
    : q(spec.input("q")), k(spec.input("k")), v(spec.input("v")), sequences(spec.input("sequences")),
      heads(integer(spec, "heads", 1)), kv_heads(integer(spec, "kv_heads", 1)), group(heads / kv_heads),
      head_dim(integer(spec, "head_dim", 1)), window(spec.numbers.count("window") ? integer(spec, "window", 0) : 0),
      max_rows(std::max<int64_t>(1, spec.max_rows)), scale(static_cast<float>(spec.number("scale"))),
      rounds_to_bf16(gemm_form(spec) != GemmForm::kF32) {
  if (heads % kv_heads) refuse_node(spec, "heads in equal groups of " + std::to_string(kv_heads), std::to_string(heads));
  expect_columns(spec, "q", heads * head_dim);
  for (const char* name : {"k", "v"}) expect_columns(spec, name, kv_heads * head_dim);
  expect_columns(spec, "sequences", 2);
}

SequenceHeads SequenceAttentionNode::at(const OpArgs& args, const SequenceRange& range, int64_t kv_head) const {
  SequenceHeads part;
  part.q = args.in[q].f32_row(range.first_row) + kv_head * group * head_dim;
  part.k = args.in[k].f32_row(range.first_row) + kv_head * head_dim;
  part.v = args.in[v].f32_row(range.first_row) + kv_head * head_dim;
  part.q_stride = args.in[q].row_stride;
  part.k_stride = args.in[k].row_stride;
  part.v_stride = args.in[v].row_stride;
  part.num_rows = range.num_rows;
  part.group = group;
  part.head_dim = head_dim;
  part.window = window;
  part.scale = scale;
  part.rounds_to_bf16 = rounds_to_bf16;
  return part;
}

float* aligned_floats(void* memory) {
  return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory) + 63) / 64 * 64);
}

namespace {

// Queries (rows * group) of a tile: enough that packing the tokens costs little.
constexpr int64_t kTileQueries = 288;
constexpr int64_t kRowStep = 48;

// out[r, h] = sum over rows j <= r of r's sequence of softmax(scale * q[r, h] . k[j])[j] * v[j]
//
// A tile: some rows of a sequence and the query heads of one key/value head. Later rows, which see more, come first.
class SequenceAttention final : public Op {
 public:
  explicit SequenceAttention(const NodeSpec& spec)
      : node_(spec), out_(spec.output("out")), log_sum_exp_(spec.output("log_sum_exp")),
        tile_rows_(std::max<int64_t>(1, kTileQueries / node_.group / kRowStep) * kRowStep),
        kernels_(spec.kernels->sequence_attention) {
    expect_columns(spec, "out", node_.heads * node_.head_dim);
    expect_columns(spec, "log_sum_exp", node_.heads);
  }

  size_t scratch_bytes() const override {
    return static_cast<size_t>(kernels_->forward_floats(tile_rows_, node_.group, node_.head_dim)) * sizeof(float) + 64;
  }

  void check(const OpArgs& args) const override {
    expect_sequences(args.in[node_.sequences], args.in[node_.q].rows, "sequence_attention");
  }

  int64_t num_tiles(int, const OpArgs& args) const override {
    int64_t count = 0;
    const Matrix& sequences = args.in[node_.sequences];
    for (int64_t index = 0; index < sequences.rows; ++index) count += row_tiles(sequence_range(sequences, index));
    return count * node_.kv_heads;
  }

  void run_tile(int, int64_t tile, const OpArgs& args, int thread) const override {
    args.scratch[thread].owner = nullptr;
    const Matrix& sequences = args.in[node_.sequences];
    int64_t row_tile = tile / node_.kv_heads, index = 0;
    while (row_tile >= row_tiles(sequence_range(sequences, index))) row_tile -= row_tiles(sequence_range(sequences, index++));
    const SequenceRange range = sequence_range(sequences, index);
    const int64_t kv_head = tile % node_.kv_heads, first_row = (row_tiles(range) - 1 - row_tile) * tile_rows_;
    const Matrix &out = args.out[out_], &log_sum_exp = args.out[log_sum_exp_];
    kernels_->forward(node_.at(args, range, kv_head), first_row, std::min(range.num_rows, first_row + tile_rows_),
                      out.f32_row(range.first_row) + kv_head * node_.group * node_.head_dim, out.row_stride,
                      log_sum_exp.f32_row(range.first_row) + kv_head * node_.group, log_sum_exp.row_stride,
                      aligned_floats(args.scratch[thread].data));
  }

 private:
  int64_t row_tiles(const SequenceRange& range) const { return (range.num_rows + tile_rows_ - 1) / tile_rows_; }

  SequenceAttentionNode node_;
  int out_, log_sum_exp_;
  int64_t tile_rows_;
  const SequenceAttentionKernels* kernels_;
};

}  // namespace

std::unique_ptr<Op> make_sequence_attention(const NodeSpec& spec) { return std::make_unique<SequenceAttention>(spec); }

}  // namespace weft
