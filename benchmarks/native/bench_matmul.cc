// How fast products with packed weights are, against what this machine's arithmetic and memory allow.
//
//   bench_matmul [kind] [threads] [rows] [isa] [KiB]  kind: q4, q8, int8, bf16, f16, f32 or all; rows 0: several
//
// The shapes are those of a layer of SmolLM2-135M and of its head. Each case is checked against the serial loop
// of tests/native/matmul_problem.h before it is timed; medians over runs that walk through more weights than the
// processor's caches hold, as the layers of a model do. Shares are of the rate of multiplications on registers
// alone, and of the rate at which memory is read alone. The last line is JSON.
#include <cstdio>

#include "check.h"
#include "exec/limits.h"
#include "exec/trace.h"
#include "matmul_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

struct Shape {
  const char* name;
  int64_t n, k;
};
constexpr Shape kShapes[] = {
    {"q, k, v", 960, 576}, {"attention out", 576, 576}, {"gate, up", 3072, 576}, {"down", 576, 1536}, {"head", 49152, 576}};

struct WeightKind {
  const char* name;
  BlockKind block;
  double MachineLimits::*rate;
  std::optional<PanelKind> target = {};
};
constexpr WeightKind kKinds[] = {{"q4", BlockKind::kQ4_1, &MachineLimits::q4_flops},
                                 {"q8", BlockKind::kQ8_0, &MachineLimits::q8_flops},
                                 {"int8", BlockKind::kF32, &MachineLimits::q8_flops, PanelKind::kInt8},
                                 {"bf16", BlockKind::kBF16, &MachineLimits::bf16_flops},
                                 {"f16", BlockKind::kF16, &MachineLimits::f32_flops},
                                 {"f32", BlockKind::kF32, &MachineLimits::f32_flops}};
constexpr int64_t kRows[] = {1, 2, 4, 8, 16, 64, 512};
int64_t kWeightBytes = int64_t{80} << 20;  // more than a last-level cache, unless the fifth argument says otherwise, in KiB

struct Timing {
  double us, gop_s, gb_s;
  double best_us;  // of the quickest run
};

void check(const Kernels& kernels, const WeightKind& kind, const Table<float>& x, const FileBytes& bytes,
           std::shared_ptr<const Weight> weight) {
  if (rounds_rows(kernels, bytes.kind)) return;  // within a bound only; the tests hold it to that
  const int64_t rows = std::min<int64_t>(x.rows, 3);
  const Table<float> some = rows_of(x, x.rows - rows, rows);
  CHECK(rows_of(run_linear(kernels, x, weight), x.rows - rows, rows) ==
        (kind.target ? reference_int8_product(kernels, some, bytes) : reference_product(kernels, some, bytes)));
}

// The same weight again and again in different memory.
std::vector<std::shared_ptr<const Weight>> copies_of(const FileBytes& bytes, std::optional<PanelKind> target) {
  std::vector<std::shared_ptr<const Weight>> copies = {pack({&bytes}, false, target)};
  while (static_cast<int64_t>(copies.size() * copies[0]->bytes()) < kWeightBytes) copies.push_back(pack({&bytes}, false, target));
  return copies;
}

std::pair<double, double> median_and_best_us(std::vector<PreparedOp>& ops, Team& team) {
  std::vector<double> rounds;
  const int64_t begin = steady_now_ns();
  while (rounds.size() < 3 || (steady_now_ns() - begin < 300'000'000 && rounds.size() < 101)) {
    const int64_t start = steady_now_ns();
    for (PreparedOp& op : ops) op.run(team);
    rounds.push_back(1e-3 * static_cast<double>(steady_now_ns() - start) / static_cast<double>(ops.size()));
  }
  std::nth_element(rounds.begin(), rounds.begin() + rounds.size() / 2, rounds.end());
  return {rounds[rounds.size() / 2], *std::min_element(rounds.begin(), rounds.end())};
}

Timing measure(const Kernels& kernels, const std::vector<std::shared_ptr<const Weight>>& weights, const Table<float>& x,
               Team& team) {
  Table<float> out(x.rows, weights[0]->n());
  std::vector<PreparedOp> ops;
  for (const auto& weight : weights)
    ops.push_back(OpRunner("linear").weight("weight", weight).in("x", x).out("out", out).prepare(kernels, team.num_threads()));
  const auto [us, best_us] = median_and_best_us(ops, team);
  const double products = static_cast<double>(x.rows * weights[0]->n() * weights[0]->k());
  return {us, 2e-3 * products / us, 1e-3 * static_cast<double>(weights[0]->bytes()) / us, best_us};
}

void run_kind(const WeightKind& kind, const Kernels& kernels, const MachineLimits& limits, Team& team, int64_t only_rows,
              std::string& json) {
  for (const Shape& shape : kShapes) {
    const FileBytes bytes(kind.block, shape.n, shape.k, 1);
    const auto weights = copies_of(bytes, kind.target);
    for (const int64_t rows : kRows) {
      if (only_rows && rows != only_rows) continue;
      const Table<float> x = random_table(rows, shape.k, 2);
      check(kernels, kind, x, bytes, weights[0]);
      const Timing timing = measure(kernels, weights, x, team);
      const double arithmetic = timing.gop_s * 1e9 / (limits.*kind.rate), reading = timing.gb_s * 1e9 / limits.read_bytes_per_second;
      std::printf("%-5s %-14s %4lld rows %10.2f us %8.1f GOP/s %5.1f %% %7.2f GB/s %5.1f %%   (best %10.2f us)\n", kind.name, shape.name,
                  static_cast<long long>(rows), timing.us, timing.gop_s, 100 * arithmetic, timing.gb_s, 100 * reading, timing.best_us);
      std::fflush(stdout);
      char line[256];
      std::snprintf(line, sizeof(line),
                    "%s{\"kind\": \"%s\", \"n\": %lld, \"k\": %lld, \"rows\": %lld, \"us\": %.3f, \"gop_s\": %.2f, "
                    "\"arithmetic_share\": %.4f, \"gb_s\": %.3f, \"bandwidth_share\": %.4f}",
                    json.back() == '[' ? "" : ", ", kind.name, static_cast<long long>(shape.n),
                    static_cast<long long>(shape.k), static_cast<long long>(rows), timing.us, timing.gop_s, arithmetic,
                    timing.gb_s, reading);
      json += line;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string wanted = argc > 1 ? argv[1] : "all";
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const int64_t rows = argc > 3 ? std::atoll(argv[3]) : 0;
  const Kernels& kernels = argc > 4 ? kernels_for(argv[4]) : default_kernels();
  if (argc > 5) kWeightBytes = std::atoll(argv[5]) << 10;
  Pool pool(threads, 1);
  Team& team = pool.team(0);
  const MachineLimits limits = measure_limits(team, kernels);
  std::printf("%s, %d threads; GOP/s: q4 %.0f, q8 %.0f, bf16 %.0f, f32 %.0f; memory %.1f GB/s\n", kernels.isa, threads,
              limits.q4_flops * 1e-9, limits.q8_flops * 1e-9, limits.bf16_flops * 1e-9, limits.f32_flops * 1e-9,
              limits.read_bytes_per_second * 1e-9);
  std::string json = "{\"benchmark\": \"matmul\", \"isa\": \"" + std::string(kernels.isa) +
                     "\", \"threads\": " + std::to_string(threads) + ", \"cases\": [";
  for (const WeightKind& kind : kKinds)
    if (wanted == "all" || wanted == kind.name) run_kind(kind, kernels, limits, team, rows, json);
  std::printf("%s]}\n", json.c_str());
  return num_failures.load() == 0 ? 0 : 1;
}
