#include "exec/optimizer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include "base/error.h"
#include "exec/all_threads.h"
#include "threads/float_mode.h"

namespace weft {

namespace {

constexpr int64_t kSumElements = 4096;       // of a partial sum
constexpr int64_t kTileElements = 1 << 16;   // of a tile, a multiple of kSumElements

struct Piece {
  size_t tensor;
  int64_t first, count;
};

std::vector<Piece> pieces_of(const Tensors& tensors, int64_t most) {
  std::vector<Piece> pieces;
  for (size_t i = 0; i < tensors.size(); ++i)
    for (int64_t first = 0; first < tensors[i]->size(); first += most)
      pieces.push_back({i, first, std::min(most, tensors[i]->size() - first)});
  return pieces;
}

// On all threads, unless there is less to do than waking them takes.
void share_out(Pool& pool, const Tensors& tensors, int64_t count, const std::function<void(int64_t)>& body) {
  int64_t size = 0;
  for (const auto& tensor : tensors) size += tensor->size();
  if (size > kTileElements) return run_on_all(pool, count, [&](int64_t i, int) { body(i); });
  const DefaultFloatMode mode;
  for (int64_t i = 0; i < count; ++i) body(i);
}

void expect_all(const Tensors& tensors, const char* what) {
  for (const auto& tensor : tensors)
    if (!tensor) throw Error(ErrorKind::kValue, std::string("expected a tensor for each of the ") + what + ", got none; pass it");
}

void expect_like(const Tensors& tensors, const Tensors& weights, bool needed, const char* what) {
  expect_all(tensors, what);
  bool fits = tensors.size() == (needed ? weights.size() : 0);
  for (size_t i = 0; fits && i < tensors.size(); ++i) fits = tensors[i]->size() == weights[i]->size();
  if (!fits)
    throw Error(ErrorKind::kValue, std::string("expected ") + (needed ? "" : "no ") + what + " of the weights' sizes, got " +
                                       std::to_string(tensors.size()) + " for " + std::to_string(weights.size()) +
                                       " weights; pass those that this kind of optimizer keeps");
}

UpdateRule rule_of(const UpdateSettings& settings) {
  UpdateRule rule = {};
  rule.kind = settings.kind;
  rule.gradient_scale = static_cast<float>(settings.gradient_scale);
  rule.weight_decay = static_cast<float>(settings.weight_decay);
  rule.learning_rate = static_cast<float>(settings.learning_rate);
  rule.momentum = static_cast<float>(settings.momentum);
  rule.nesterov = settings.nesterov;
  rule.beta1 = static_cast<float>(settings.beta1);
  rule.beta2 = static_cast<float>(settings.beta2);
  rule.eps = static_cast<float>(settings.eps);
  rule.keep = static_cast<float>(1.0 - settings.learning_rate * settings.weight_decay);
  if (settings.kind == UpdateKind::kSgd) return rule;
  const double step = static_cast<double>(settings.step);
  rule.step_size = static_cast<float>(settings.learning_rate / (1.0 - std::pow(settings.beta1, step)));
  rule.second_scale = static_cast<float>(std::sqrt(1.0 - std::pow(settings.beta2, step)));
  return rule;
}

}  // namespace

double gradient_norm(Pool& pool, const Kernels& kernels, const Tensors& gradients) {
  expect_all(gradients, "gradients");
  const std::vector<Piece> pieces = pieces_of(gradients, kSumElements);
  std::vector<double> sums(pieces.size());
  constexpr int64_t kPieces = kTileElements / kSumElements;
  const int64_t count = static_cast<int64_t>(pieces.size());
  share_out(pool, gradients, (count + kPieces - 1) / kPieces, [&](int64_t tile) {
    for (int64_t i = tile * kPieces; i < std::min(count, (tile + 1) * kPieces); ++i) {
      const Piece& piece = pieces[static_cast<size_t>(i)];
      sums[static_cast<size_t>(i)] =
          kernels.optimizer->sum_of_squares(gradients[piece.tensor]->data() + piece.first, piece.count);
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

void update_weights(Pool& pool, const Kernels& kernels, const UpdateSettings& settings, const Tensors& weights,
                    const Tensors& gradients, const Tensors& first, const Tensors& second) {
  const bool is_sgd = settings.kind == UpdateKind::kSgd;
  expect_all(weights, "weights");
  expect_like(gradients, weights, true, "gradients");
  expect_like(first, weights, !is_sgd || settings.momentum != 0.0, "first moments");
  expect_like(second, weights, !is_sgd, "second moments");
  if (settings.step < 1)
    throw Error(ErrorKind::kValue, "expected a step of at least 1, got " + std::to_string(settings.step) +
                                       "; count updates from 1");
  const UpdateRule rule = rule_of(settings);
  const std::vector<Piece> pieces = pieces_of(weights, kTileElements);
  share_out(pool, weights, static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    const auto at = [&](const Tensors& tensors) {
      return tensors.empty() ? nullptr : tensors[piece.tensor]->data() + piece.first;
    };
    kernels.optimizer->update(&rule, at(weights), at(gradients), at(first), at(second), piece.count);
  });
}

}  // namespace weft
