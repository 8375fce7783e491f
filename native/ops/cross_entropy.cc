#include <algorithm>
#include <cmath>

#include "memory/tensor.h"
#include "ops/checks.h"
#include "ops/gemm_op.h"
#include "ops/ops.h"

namespace weft {

namespace {

constexpr int64_t kChunkRows = 512;  // whose logits exist at a time
constexpr size_t kAlignment = 64;

size_t aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// A chunk of rows at a time: pack the features; logits = x * weight^T; row by row the loss and the logits' gradients,
// which are packed while they are in the cache; d_x = d_logits * weight and d_weight += d_logits^T * x, together.
// Weight and its gradient are much larger than a chunk's features: tiles pack what they need of them themselves.
class CrossEntropy final : public Op {
 public:
  CrossEntropy(const NodeSpec& spec, bool has_gradients)
      : kernels_(*spec.kernels->gemm), rows_kernels_(*spec.kernels->cross_entropy), form_(gemm_form(spec)),
        weight_(spec, "weight"), x_(spec.input("x")), targets_(spec.input("targets")),
        loss_weights_(has_gradients ? spec.input("loss_weights") : -1), loss_(spec.output("loss")),
        correct_(spec.output("correct")), d_x_(has_gradients ? spec.output("d_x") : -1),
        d_weight_(spec.tensor_or_null("d_weight", weight_.n, weight_.k)),
        smoothing_(spec.number_or("label_smoothing", 0.0)), z_loss_(spec.number_or("z_loss", 0.0)),
        most_rows_(std::min(spec.max_rows, kChunkRows)),
        num_chunks_(static_cast<int>((spec.max_rows + kChunkRows - 1) / kChunkRows)),
        // Rows a multiple of 4,096 bytes apart would share the places of a cache.
        logit_stride_((weight_.n + 15) / 16 * 16 + 16) {
    expect_columns(spec, "x", weight_.k);
    for (const char* name : {"targets", "loss", "correct"}) expect_columns(spec, name, 1);
    if (has_gradients) expect_columns(spec, "loss_weights", 1);
    if (has_gradients) expect_columns(spec, "d_x", weight_.k);
    if (weight_.packed && weight_.packed->is_interleaved()) refuse_node(spec, "a plain weight", "an interleaved one");
  }

  int num_phases() const override { return num_chunks_ * phases_of_chunk(); }

  size_t scratch_bytes() const override {
    size_t bytes = GemmWork::scratch_bytes(kernels_, form_, logit_sizes(most_rows_), true, false);
    bytes = std::max(bytes, GemmWork::scratch_bytes(kernels_, form_, d_x_sizes(most_rows_), true, false));
    return std::max(bytes, GemmWork::scratch_bytes(kernels_, form_, d_weight_sizes(most_rows_), false, true));
  }

  size_t shared_bytes() const override { return places(most_rows_).end; }

  void check(const OpArgs& args) const override {
    expect_indices(args.in[targets_], args.in[x_].rows, weight_.n, "targets");
    if (d_x_ >= 0) expect_rows(args.in[loss_weights_].rows, args.in[x_].rows, "loss weights");
  }

  int64_t num_tiles(int phase, const OpArgs& args) const override {
    const Chunk chunk = chunk_of(phase, args);
    if (chunk.rows <= 0) return 0;
    switch (phase % phases_of_chunk()) {
      case kPack:
        return pack_tiles(logits(chunk, args), args) + (d_weight_ ? pack_tiles(d_weight(chunk, args), args) : 0);
      case kLogits: return num_tiles_of(logits(chunk, args), args);
      case kLosses: return (chunk.rows + kernels_.tile_rows - 1) / kernels_.tile_rows;
      default: return num_gradient_tiles(chunk, args);
    }
  }

  void run_tile(int phase, int64_t tile, const OpArgs& args, int thread) const override {
    const Chunk chunk = chunk_of(phase, args);
    void* scratch = args.scratch[thread].data;
    switch (phase % phases_of_chunk()) {
      case kPack: return pack(tile, chunk, args, scratch);
      case kLogits: return multiply(logits(chunk, args), tile, args, scratch);
      case kLosses: return finish_rows(tile * kernels_.tile_rows, chunk, args);
      default: return multiply_gradients(tile, chunk, args, scratch);
    }
  }

 private:
  enum Phase { kPack, kLogits, kLosses, kGradients };

  struct Chunk {
    int64_t first, rows;
  };
  // Where a chunk's arrays begin in shared memory.
  struct Places {
    size_t logits, packed_logits, features, features_again, end;
  };

  int phases_of_chunk() const { return d_x_ >= 0 ? 4 : 3; }

  Chunk chunk_of(int phase, const OpArgs& args) const {
    const int64_t first = phase / phases_of_chunk() * kChunkRows;
    return {first, std::min(kChunkRows, args.in[x_].rows - first)};
  }

  GemmSizes logit_sizes(int64_t rows) const { return {rows, weight_.n, weight_.k}; }
  GemmSizes d_x_sizes(int64_t rows) const { return {rows, weight_.k, weight_.n}; }
  GemmSizes d_weight_sizes(int64_t rows) const { return {weight_.n, weight_.k, rows}; }

  Places places(int64_t rows) const {
    Places at = {};
    at.packed_logits = aligned(static_cast<size_t>(rows * logit_stride_) * sizeof(float));
    at.features = at.packed_logits + (d_x_ >= 0 ? GemmWork::packed_a_bytes(kernels_, form_, d_x_sizes(rows)) : 0);
    at.features_again = at.features + GemmWork::packed_a_bytes(kernels_, form_, logit_sizes(rows));
    at.end = at.features_again + (d_weight_ ? GemmWork::packed_b_bytes(kernels_, form_, d_weight_sizes(rows)) : 0);
    return at;
  }

  uint8_t* shared(const OpArgs& args, size_t Places::* place) const {
    return static_cast<uint8_t*>(args.shared) + places(most_rows_).*place;
  }
  float* logit_row(const OpArgs& args, int64_t row) const {
    return static_cast<float*>(args.shared) + row * logit_stride_;
  }

  GemmProduct logits(const Chunk& chunk, const OpArgs& args) const {
    const Matrix& x = args.in[x_];
    GemmProduct product = {form_, logit_sizes(chunk.rows), GemmOperand::by_row(x.f32_row(chunk.first), x.row_stride),
                           weight_.forward()};
    product.packed_a = shared(args, &Places::features);
    product.out = logit_row(args, 0);
    product.out_stride = logit_stride_;
    product.streams = true;
    return product;
  }

  GemmProduct d_x(const Chunk& chunk, const OpArgs& args) const {
    GemmProduct product = {form_, d_x_sizes(chunk.rows), GemmOperand::by_row(logit_row(args, 0), logit_stride_),
                           weight_.backward()};
    product.packed_a = shared(args, &Places::packed_logits);
    product.out = args.out[d_x_].f32_row(chunk.first);
    product.out_stride = args.out[d_x_].row_stride;
    return product;
  }

  GemmProduct d_weight(const Chunk& chunk, const OpArgs& args) const {
    const Matrix& x = args.in[x_];
    GemmProduct product = {form_, d_weight_sizes(chunk.rows), GemmOperand::by_input(logit_row(args, 0), logit_stride_),
                           GemmOperand::by_input(x.f32_row(chunk.first), x.row_stride)};
    product.packed_b = shared(args, &Places::features_again);
    product.addend = product.out = d_weight_->data();
    product.addend_stride = product.out_stride = weight_.k;
    return product;
  }

  int64_t num_tiles_of(const GemmProduct& product, const OpArgs& args) const {
    return GemmWork(kernels_, product, args.num_threads).num_tiles();
  }
  void multiply(const GemmProduct& product, int64_t tile, const OpArgs& args, void* scratch) const {
    GemmWork(kernels_, product, args.num_threads).multiply(tile, scratch);
  }

  int64_t pack_tiles(const GemmProduct& product, const OpArgs& args) const {
    return GemmWork(kernels_, product, args.num_threads).num_pack_tiles();
  }

  // The features, for the logits and, the other way about, for the gradient of the weight.
  void pack(int64_t tile, const Chunk& chunk, const OpArgs& args, void* scratch) const {
    const GemmProduct first = logits(chunk, args);
    const int64_t tiles = pack_tiles(first, args);
    if (tile < tiles) return GemmWork(kernels_, first, args.num_threads).pack(tile, scratch);
    const GemmProduct second = d_weight(chunk, args);
    GemmWork(kernels_, second, args.num_threads).pack(tile - tiles, scratch);
  }

  // Tiles of d_x first: they are the longer ones.
  int64_t num_gradient_tiles(const Chunk& chunk, const OpArgs& args) const {
    return num_tiles_of(d_x(chunk, args), args) + (d_weight_ ? num_tiles_of(d_weight(chunk, args), args) : 0);
  }
  void multiply_gradients(int64_t tile, const Chunk& chunk, const OpArgs& args, void* scratch) const {
    const GemmProduct features = d_x(chunk, args);
    const int64_t tiles = num_tiles_of(features, args);
    if (tile < tiles) return multiply(features, tile, args, scratch);
    multiply(d_weight(chunk, args), tile - tiles, args, scratch);
  }

  // A strip of rows: their losses, and with gradients those of their logits, packed.
  void finish_rows(int64_t first, const Chunk& chunk, const OpArgs& args) const {
    const int64_t count = std::min(kernels_.tile_rows, chunk.rows - first);
    for (int64_t row = first; row < first + count; ++row) finish_row(row, chunk.first + row, args);
    if (d_x_ < 0) return;
    const GemmBlocks blocks(weight_.n);
    const GemmOperand operand = GemmOperand::by_row(logit_row(args, 0), logit_stride_);
    for (int64_t block = 0; block < blocks.count; ++block) {
      uint8_t* strip = shared(args, &Places::packed_logits) +
                       packed_offset(form_, kernels_.tile_rows, chunk.rows, blocks, block, first);
      pack_operand(kernels_, form_, operand, kernels_.tile_rows, first, count, blocks.first(block), blocks.size(block),
                   strip, gemm_strip_bytes(form_, kernels_.tile_rows, blocks.size(block)), nullptr);
    }
  }

  void finish_row(int64_t row, int64_t index, const OpArgs& args) const {
    float* values = logit_row(args, row);
    const int64_t target = *args.in[targets_].i32_row(index);
    const LogitStatistics found = rows_kernels_.summarise(values, weight_.n, target, d_x_ >= 0);
    const double vocabulary = static_cast<double>(weight_.n);
    const double log_sum = found.largest + std::log(found.exp_sum);
    const double loss = (1.0 - smoothing_) * (log_sum - found.at_target) +
                        smoothing_ * (log_sum - found.sum / vocabulary) + z_loss_ * log_sum * log_sum;
    *args.out[loss_].f32_row(index) = static_cast<float>(loss);
    *args.out[correct_].f32_row(index) = found.target_is_first_largest ? 1.0f : 0.0f;
    if (d_x_ < 0) return;
    const double weight = *args.in[loss_weights_].f32_row(index);
    const double scale = weight * (1.0 + 2.0 * z_loss_ * log_sum) / found.exp_sum;
    const double at_target = values[target] * scale - weight * (smoothing_ / vocabulary + 1.0 - smoothing_);
    rows_kernels_.scale_and_shift(values, weight_.n, static_cast<float>(scale),
                                  static_cast<float>(-weight * smoothing_ / vocabulary));
    values[target] = static_cast<float>(at_target);
  }

  const GemmKernels& kernels_;
  const CrossEntropyKernels& rows_kernels_;
  const GemmForm form_;
  const GemmWeight weight_;
  const int x_, targets_, loss_weights_, loss_, correct_, d_x_;
  const std::shared_ptr<Tensor> d_weight_;
  const double smoothing_, z_loss_;
  const int64_t most_rows_;
  const int num_chunks_;
  const int64_t logit_stride_;
};

}  // namespace

std::unique_ptr<Op> make_cross_entropy(const NodeSpec& spec) { return std::make_unique<CrossEntropy>(spec, false); }
std::unique_ptr<Op> make_cross_entropy_grad(const NodeSpec& spec) { return std::make_unique<CrossEntropy>(spec, true); }

}  // namespace weft
