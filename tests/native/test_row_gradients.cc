// Row-wise operations of training against double precision, and their bits over threads and schedules.
#include <cmath>

#include "base/random.h"
#include "check.h"
#include "op_runner.h"

using namespace weft;
using namespace weft::test;

namespace {

constexpr float kUntouched = 7.0f;

Table<float> random_table(int64_t rows, int64_t columns, uint32_t seed, int64_t gap = 0, double scale = 1.5) {
  Table<float> table(rows, columns, gap);
  std::mt19937 random(seed);
  std::normal_distribution<double> normal(0.0, scale);
  for (float& value : table.memory) value = static_cast<float>(normal(random));
  return table;
}

// Every element within `tolerance` of `expected(row, column)`, and the gap beyond the columns untouched.
template <typename Expected>
void check_table(const char* what, const Table<float>& got, double tolerance, const Expected& expected) {
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t c = 0; c < got.columns; ++c) {
      const double wanted = expected(r, c);
      if (std::abs(got.at(r, c) - wanted) <= tolerance * std::max(1.0, std::abs(wanted))) continue;
      std::ostringstream text;
      text << what << " of " << got.columns << " columns at " << r << ", " << c << ": expected " << wanted << ", got "
           << got.at(r, c);
      return fail(__FILE__, __LINE__, text.str());
    }
    for (int64_t c = got.columns; c < got.stride; ++c) CHECK_EQUAL(got.row(r)[c], kUntouched);
  }
}

std::vector<Schedule> schedules() {
  return {{1, 0, false}, {2, 5, false}, {3, 6, false}, {8, 7, false}, {2, 0, true}, {3, 0, true}, {8, 0, true}};
}

// ---- norms

struct Norm {
  const char* op;
  int64_t rows, columns, heads;
  bool has_residual, has_sums;
  double center() const { return is_layer() ? 3.0 : 0.0; }
  bool is_layer() const { return std::string(op) == "layer_norm_grad"; }
  int64_t size() const { return columns / heads; }
};

struct NormRun {
  Table<float> d_x, d_weight, d_bias;
};

struct NormProblem {
  Norm norm;
  Table<float> x, d_out, residual, weight;

  explicit NormProblem(const Norm& norm)
      : norm(norm), x(random_table(norm.rows, norm.columns, 1, 3)), d_out(random_table(norm.rows, norm.columns, 2)),
        residual(random_table(norm.rows, norm.columns, 3, 1)), weight(random_table(1, norm.size(), 4)) {
    for (float& value : x.memory) value += static_cast<float>(norm.center());
  }

  // The gradients of parameters begin at 0.5: they are added to.
  NormRun run(const Kernels& kernels, const Schedule& schedule) const {
    NormRun result = {{norm.rows, norm.columns, 2, kUntouched}, {1, norm.size(), 0, 0.5f}, {1, norm.size(), 0, 0.5f}};
    Table<float> held = weight;
    OpRunner runner(norm.op);
    runner.number("eps", 1e-5).number("heads", static_cast<double>(norm.heads)).tensor("weight", held);
    runner.in("x", x).in("d_out", d_out).out("d_x", result.d_x);
    if (norm.has_residual) runner.in("residual", residual);
    if (norm.has_sums) runner.tensor("d_weight", result.d_weight);
    if (norm.has_sums && norm.is_layer()) runner.tensor("d_bias", result.d_bias);
    runner.run(kernels, schedule);
    return result;
  }

  void check(const NormRun& got) const;
};

void NormProblem::check(const NormRun& got) const {
  const int64_t size = norm.size();
  std::vector<double> d_x(norm.rows * norm.columns), d_weight(size, 0.5), d_bias(size, 0.5);
  for (int64_t r = 0; r < norm.rows; ++r) {
    for (int64_t first = 0; first < norm.columns; first += size) {
      double mean = 0, variance = 0, products = 0, values = 0;
      for (int64_t c = 0; c < size && norm.is_layer(); ++c) mean += double(x.at(r, first + c)) / size;
      for (int64_t c = 0; c < size; ++c) variance += std::pow(x.at(r, first + c) - mean, 2) / size;
      const double scale = 1 / std::sqrt(variance + 1e-5);
      for (int64_t c = 0; c < size; ++c) {
        const double n = (x.at(r, first + c) - mean) * scale, d = d_out.at(r, first + c);
        products += d * weight.at(0, c) * n / size;
        values += norm.is_layer() ? d * weight.at(0, c) / size : 0.0;
        d_weight[c] += d * n;
        d_bias[c] += d;
      }
      for (int64_t c = 0; c < size; ++c) {
        const double n = (x.at(r, first + c) - mean) * scale;
        d_x[r * norm.columns + first + c] = scale * (double(d_out.at(r, first + c)) * weight.at(0, c) - values - n * products) +
                                            (norm.has_residual ? residual.at(r, first + c) : 0.0f);
      }
    }
  }
  // A slice of few columns may have a variance near 0, whose rounding its scale enlarges.
  check_table(norm.op, got.d_x, size < 8 ? 3e-3 : 5e-6, [&](int64_t r, int64_t c) { return d_x[r * norm.columns + c]; });
  if (!norm.has_sums) return;
  check_table("d_weight", got.d_weight, 5e-5, [&](int64_t, int64_t c) { return d_weight[c]; });
  if (norm.is_layer()) check_table("d_bias", got.d_bias, 5e-5, [&](int64_t, int64_t c) { return d_bias[c]; });
}

void norm_gradients_match() {
  for (const Kernels* kernels : available_kernels()) {
    for (const char* op : {"rms_norm_grad", "layer_norm_grad"}) {
      for (const int64_t columns : {1, 2, 7, 8, 15, 16, 17, 33, 64, 100, 131, 576}) {
        for (const bool has_residual : {false, true}) {
          for (const bool has_sums : {false, true}) {
            const NormProblem problem({op, 5, columns, 1, has_residual, has_sums});
            problem.check(problem.run(*kernels, {}));
          }
        }
      }
    }
    const NormProblem by_head({"rms_norm_grad", 70, 60, 3, true, true});
    by_head.check(by_head.run(*kernels, {}));
  }
}

void norm_gradients_keep_their_bits() {
  for (const Kernels* kernels : available_kernels()) {
    for (const char* op : {"rms_norm_grad", "layer_norm_grad"}) {
      for (const int64_t rows : {0, 1, 63, 64, 65, 200}) {
        const NormProblem problem({op, rows, 300, 1, true, true});
        const NormRun expected = problem.run(*kernels, {});
        problem.check(expected);
        for (const Schedule& schedule : schedules()) {
          const NormRun got = problem.run(*kernels, schedule);
          CHECK(got.d_x == expected.d_x);
          CHECK(got.d_weight == expected.d_weight);
          CHECK(got.d_bias == expected.d_bias);
        }
      }
    }
  }
}

void norm_gradients_work_in_place() {
  for (const Kernels* kernels : available_kernels()) {
    for (const char* op : {"rms_norm_grad", "layer_norm_grad"}) {
      const NormProblem problem({op, 9, 43, 1, true, false});
      const Table<float> expected = problem.run(*kernels, {}).d_x;
      for (const char* reused : {"x", "d_out", "residual"}) {
        NormProblem copy = problem;
        Table<float>& target = *reused == 'x' ? copy.x : *reused == 'd' ? copy.d_out : copy.residual;
        OpRunner runner(op);
        runner.number("eps", 1e-5).tensor("weight", copy.weight).in("x", copy.x).in("d_out", copy.d_out);
        runner.in("residual", copy.residual).out("d_x", target).run(*kernels);
        CHECK(target == expected);
      }
    }
  }
}

// ---- activations

using Function = double (*)(double);

double silu(double v) { return v / (1 + std::exp(-v)); }
double gelu(double v) { return 0.5 * v * (1 + std::erf(v * std::sqrt(0.5))); }
double gelu_by_tanh(double v) { return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))); }

// The derivative by a central difference, exact to about 1e-9.
double slope(Function function, double at) { return (function(at + 1e-4) - function(at - 1e-4)) / 2e-4; }

void activation_gradients_match() {
  for (const Kernels* kernels : available_kernels()) {
    for (int64_t n = 1; n <= 67; ++n) {
      const Table<float> x = random_table(3, 2 * n, 1, 5, 3.0), d_out = random_table(3, n, 2, 1);
      Table<float> d_x(3, 2 * n, 3, kUntouched), narrow(3, n, 2, kUntouched);
      OpRunner("silu_gate_grad").in("x", x).in("d_out", d_out).out("d_x", d_x).run(*kernels);
      check_table("silu_gate_grad", d_x, 2e-6, [&](int64_t r, int64_t c) {
        return c < n ? d_out.at(r, c) * x.at(r, n + c) * slope(silu, x.at(r, c)) : d_out.at(r, c - n) * silu(x.at(r, c - n));
      });
      const Table<float> values = random_table(3, n, 3, 4, 2.5);
      for (const auto& [approximate, function] : {std::pair<const char*, Function>{"none", gelu}, {"tanh", gelu_by_tanh}}) {
        OpRunner("gelu_grad").text("approximate", approximate).in("x", values).in("d_out", d_out).out("d_x", narrow)
            .run(*kernels);
        const Function of = function;
        check_table("gelu_grad", narrow, 2e-6, [&](int64_t r, int64_t c) { return d_out.at(r, c) * slope(of, values.at(r, c)); });
      }
      OpRunner("tanh").in("x", values).out("out", narrow).run(*kernels);
      check_table("tanh", narrow, 3e-7, [&](int64_t r, int64_t c) { return std::tanh(double(values.at(r, c))); });
      Table<float> gradient(3, n, 1, kUntouched);
      OpRunner("tanh_grad").in("out", narrow).in("d_out", d_out).out("d_x", gradient).run(*kernels);
      check_table("tanh_grad", gradient, 1e-6, [&](int64_t r, int64_t c) {
        return d_out.at(r, c) * (1 - std::pow(double(narrow.at(r, c)), 2));
      });
    }
  }
}

// Relative precision of tanh beside 0, and limits: slopes of 0 and 1, no NaN out of large numbers, NaN kept.
void activations_at_the_edges() {
  for (const Kernels* kernels : available_kernels()) {
    for (double size = 1e-30; size < 100; size *= 1.07) {
      const float x[2] = {static_cast<float>(size), static_cast<float>(-size)};
      float out[2];
      kernels->row_gradients->tanh(x, out, 2);
      for (int i = 0; i < 2; ++i) CHECK(std::abs(out[i] / std::tanh(double(x[i])) - 1) < 4e-7);
    }
    const float x[6] = {-1e30f, -100.0f, 0.0f, 100.0f, 1e30f, NAN}, ones[6] = {1, 1, 1, 1, 1, 1};
    const float expected[5] = {0.0f, 0.0f, 0.5f, 1.0f, 1.0f};
    float out[6];
    for (const auto gelu : {kernels->row_gradients->gelu_erf, kernels->row_gradients->gelu_tanh}) {
      gelu(x, ones, out, 6);
      for (int i = 0; i < 5; ++i) CHECK(std::abs(out[i] - expected[i]) < 1e-7);
      CHECK(std::isnan(out[5]));
    }
    kernels->row_gradients->tanh(x, out, 6);
    CHECK_EQUAL(out[0], -1.0f);
    CHECK_EQUAL(out[4], 1.0f);
    CHECK(std::isnan(out[5]));
  }
}

void rotary_rotates_back() {
  for (const Kernels* kernels : available_kernels()) {
    const Table<float> x = random_table(5, 2 * 40, 1);
    Table<float> turned(5, 80), back(5, 80, 2, kUntouched);
    Table<int32_t> positions(5, 1);
    for (int r = 0; r < 5; ++r) positions.at(r, 0) = 1000 * r + 1;
    std::vector<float> inv_freq(10);
    for (int i = 0; i < 10; ++i) inv_freq[i] = static_cast<float>(std::pow(10000.0, -i / 10.0));
    for (const int inverse : {0, 1}) {
      OpRunner runner("rotary");
      runner.number("heads", 2).number("head_dim", 40).number("rotary_dim", 20).number("inverse", inverse);
      runner.number("attention_scale", inverse ? 0.5 : 2.0).vector("inv_freq", inv_freq).in("positions", positions);
      if (inverse == 0) runner.in("x", x).out("out", turned).run(*kernels);
      if (inverse == 1) runner.in("x", turned).out("out", back).run(*kernels);
    }
    check_table("rotary", back, 1e-6, [&](int64_t r, int64_t c) { return x.at(r, c); });
  }
}

// ---- losses, dropout, rows

void squared_error_matches() {
  for (const Kernels* kernels : available_kernels()) {
    for (int64_t n = 1; n <= 67; ++n) {
      const Table<float> x = random_table(4, n, 1, 2), targets = random_table(4, n, 2), weights = random_table(4, 1, 3);
      Table<float> loss(4, 1, 1, kUntouched), d_x(4, n, 3, kUntouched);
      OpRunner("squared_error").in("x", x).in("targets", targets).in("loss_weights", weights).out("d_x", d_x)
          .out("loss", loss).run(*kernels);
      check_table("loss", loss, 1e-6, [&](int64_t r, int64_t) {
        double sum = 0;
        for (int64_t c = 0; c < n; ++c) sum += std::pow(double(x.at(r, c)) - targets.at(r, c), 2) / n;
        return sum;
      });
      check_table("d_x", d_x, 1e-6, [&](int64_t r, int64_t c) {
        return weights.at(r, 0) * 2.0 / n * (double(x.at(r, c)) - targets.at(r, c));
      });
    }
  }
}

void dropout_draws_by_position() {
  Table<uint32_t> seed(1, 2);
  seed.memory = {5, 6, 0};
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t n : {1, 15, 16, 17, 40}) {
      const Table<float> x = random_table(3, n, 1);
      Table<float> out(3, n, 2, kUntouched);
      Table<int64_t> ids(3, 1);
      ids.memory = {0, 7, int64_t{1} << 33, 0};
      OpRunner("dropout").number("rate", 0.25).number("stream", 9).in("x", x).in("row_ids", ids).in("seed", seed)
          .out("out", out).run(*kernels);
      check_table("dropout", out, 1e-7, [&](int64_t r, int64_t c) {
        const uint64_t position = static_cast<uint64_t>(ids.at(r, 0) * n + c);
        return uniform((uint64_t{6} << 32) | 5, 9, position) < 0.25f ? 0.0 : x.at(r, c) / 0.75;
      });
    }
  }
}

void rows_are_shifted_within_sequences() {
  const Kernels& kernels = *available_kernels().back();
  const Table<float> x = random_table(150, 13, 1, 2);
  Table<int32_t> sequences(4, 2);
  sequences.memory = {0, 1, 1, 64, 65, 80, 145, 5, 0};
  for (const Schedule& schedule : schedules()) {
    Table<float> out(150, 13, 1, kUntouched);
    OpRunner("shift_rows").in("x", x).in("sequences", sequences).out("out", out).run(kernels, schedule);
    check_table("shift_rows", out, 0.0, [&](int64_t r, int64_t c) {
      return r == 0 || r == 1 || r == 65 || r == 145 ? 0.0f : x.at(r - 1, c);
    });
  }
  Table<float> out(150, 13);
  for (const int32_t wrong : {4, 6, 0, -5}) {
    sequences.at(3, 1) = wrong;
    CHECK_ERROR(kValue, OpRunner("shift_rows").in("x", x).in("sequences", sequences).out("out", out).run(kernels));
  }
}

void concat_joins_columns() {
  const Kernels& kernels = *available_kernels().back();
  const Table<float> a = random_table(5, 3, 1, 2), b = random_table(5, 17, 2), c = random_table(5, 1, 3, 1);
  Table<float> out(5, 21, 2, kUntouched), narrow(5, 20);
  OpRunner("concat").in("part0", a).in("part1", b).in("part2", c).out("out", out).run(kernels);
  check_table("concat", out, 0.0, [&](int64_t r, int64_t i) {
    return i < 3 ? a.at(r, i) : i < 20 ? b.at(r, i - 3) : c.at(r, 0);
  });
  CHECK_ERROR(kPlan, OpRunner("concat").in("part0", a).in("part1", a).out("out", narrow).run(kernels));
}

void embedding_gradients_add_by_token() {
  constexpr int64_t kVocabulary = 40, kColumns = 300, kWidth = 2;
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t rows : {0, 1, 64, 65, 400}) {
      const Table<float> d_out = random_table(rows, kWidth * kColumns, 1, 1);
      Table<int32_t> tokens(rows, kWidth);
      for (int64_t i = 0; i < rows * kWidth; ++i) tokens.memory[i] = static_cast<int32_t>(i % 3 ? i * 7 % kVocabulary : 5);
      const Table<float> before = random_table(kVocabulary, kColumns, 9);
      std::vector<double> expected(before.memory.begin(), before.memory.end());
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < kWidth * kColumns; ++c)
          expected[tokens.at(r, c / kColumns) * kColumns + c % kColumns] += d_out.at(r, c);
      const auto run = [&](const Schedule& schedule) {
        Table<float> d_weight = before;
        OpRunner("embedding_grad").in("tokens", tokens).in("d_out", d_out).tensor("d_table", d_weight)
            .run(*kernels, schedule);
        return d_weight;
      };
      const Table<float> first = run({});
      check_table("embedding_grad", first, 1e-5, [&](int64_t r, int64_t c) { return expected[r * kColumns + c]; });
      for (const Schedule& schedule : schedules()) CHECK(run(schedule) == first);
    }
  }
}

void embedding_reads_a_tensor() {
  const Kernels& kernels = *available_kernels().back();
  Table<float> table = random_table(6, 9, 1), out(3, 18, 1, kUntouched);
  Table<int32_t> tokens(3, 2);
  tokens.memory = {5, 0, 3, 0, 1, 2, 0};
  OpRunner runner("embedding");
  runner.in("tokens", tokens).tensor("table", table).out("out", out);
  PreparedOp op = runner.prepare(kernels, 1);
  table.at(3, 2) = 42.0f;  // what is read is the tensor as it is now
  op.run_serially(0);
  check_table("embedding", out, 0.0, [&](int64_t r, int64_t c) { return table.at(tokens.at(r, c / 9), c % 9); });
  tokens.at(2, 1) = 6;
  CHECK_ERROR(kValue, runner.run(kernels));
}

void wrong_nodes_are_refused() {
  const Kernels& kernels = *available_kernels().front();
  Table<float> x(2, 12), narrow(2, 5), weight(1, 12), short_weight(1, 11);
  const auto norm = [&] { return OpRunner("rms_norm_grad").number("eps", 1e-5).in("x", x).out("d_x", x); };
  CHECK_ERROR(kPlan, norm().in("d_out", narrow).tensor("weight", weight).run(kernels));
  CHECK_ERROR(kPlan, norm().in("d_out", x).tensor("weight", short_weight).run(kernels));
  CHECK_ERROR(kPlan, norm().in("d_out", x).tensor("weight", weight).tensor("d_weight", short_weight).run(kernels));
  CHECK_ERROR(kPlan, norm().in("d_out", x).in("residual", narrow).tensor("weight", weight).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("silu_gate_grad").in("x", x).in("d_out", narrow).out("d_x", x).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("gelu_grad").text("approximate", "maybe").in("x", x).in("d_out", x).out("d_x", x).run(kernels));
  Table<int32_t> tokens(2, 1);
  CHECK_ERROR(kPlan, OpRunner("embedding_grad").in("tokens", tokens).in("d_out", x).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("embedding_grad").in("tokens", tokens).in("d_out", x).tensor("d_table", short_weight).run(kernels));
  tokens.at(1, 0) = 1;
  CHECK_ERROR(kValue, OpRunner("embedding_grad").in("tokens", tokens).in("d_out", x).tensor("d_table", weight).run(kernels));
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"norm_gradients_match", norm_gradients_match},
                          {"norm_gradients_keep_their_bits", norm_gradients_keep_their_bits},
                          {"norm_gradients_work_in_place", norm_gradients_work_in_place},
                          {"activation_gradients_match", activation_gradients_match},
                          {"activations_at_the_edges", activations_at_the_edges},
                          {"rotary_rotates_back", rotary_rotates_back},
                          {"squared_error_matches", squared_error_matches},
                          {"dropout_draws_by_position", dropout_draws_by_position},
                          {"rows_are_shifted_within_sequences", rows_are_shifted_within_sequences},
                          {"concat_joins_columns", concat_joins_columns},
                          {"embedding_gradients_add_by_token", embedding_gradients_add_by_token},
                          {"embedding_reads_a_tensor", embedding_reads_a_tensor},
                          {"wrong_nodes_are_refused", wrong_nodes_are_refused}});
}
