// How fast the products of training are: those of a layer of SmolLM2-135M, and of its head, at 2,048 tokens.
//
//   bench_gemm [isa] [threads] [case]
//
// Some elements of each are checked against double precision before it is timed. Medians, packing included, as
// shares of the multiply-add rate that this machine reaches on registers, measured between the cases. Only rounds
// count in which the threads had the processors to themselves; too few of them are said. Plans use huge pages:
// GLIBC_TUNABLES=glibc.malloc.hugetlb=1 gives them to this program. The last line is JSON.
#include <time.h>

#include <chrono>
#include <cstdio>

#include "../../tests/native/gemm_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

struct BenchCase {
  const char* name;
  GemmSizes sizes;
  bool a_transposed, b_transposed;
  Packing packing;
};

constexpr BenchCase kCases[] = {
    {"NT q+k+v      2048 x  960 x  576", {2048, 960, 576}, false, false, Packing::kBoth},
    {"NT out        2048 x  576 x  576", {2048, 576, 576}, false, false, Packing::kBoth},
    {"NT gate+up    2048 x 3072 x  576", {2048, 3072, 576}, false, false, Packing::kBoth},
    {"NT down       2048 x  576 x 1536", {2048, 576, 1536}, false, false, Packing::kBoth},
    {"NN q+k+v      2048 x  576 x  960", {2048, 576, 960}, false, true, Packing::kBoth},
    {"NN gate+up    2048 x  576 x 3072", {2048, 576, 3072}, false, true, Packing::kBoth},
    {"NN down       2048 x 1536 x  576", {2048, 1536, 576}, false, true, Packing::kBoth},
    {"TN q+k+v       960 x  576 x 2048", {960, 576, 2048}, true, true, Packing::kBoth},
    {"TN gate+up    3072 x  576 x 2048", {3072, 576, 2048}, true, true, Packing::kBoth},
    {"TN down        576 x 1536 x 2048", {576, 1536, 2048}, true, true, Packing::kBoth},
    {"NT head      256 x 49152 x   576", {256, 49152, 576}, false, false, Packing::kOnlyA},
    {"NN head      256 x   576 x 49152", {256, 576, 49152}, false, true, Packing::kOnlyA},
    {"TN head    49152 x   576 x   256", {49152, 576, 256}, true, true, Packing::kOnlyB},
};

double now_us() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

double cpu_us() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) * 1e-3;
}

// The median duration of the rounds that nobody else disturbed: those in which all threads ran all the time.
struct Timing {
  double microseconds;
  int64_t rounds;
};

Timing time_rounds(int threads, const std::function<void()>& run) {
  constexpr size_t kWanted = 9;
  std::vector<double> rounds, disturbed;
  const double begin = now_us();
  while (rounds.size() < kWanted && now_us() - begin < 4e6) {
    const double start = now_us(), start_cpu = cpu_us();
    run();
    const double took = now_us() - start;
    (cpu_us() - start_cpu >= 0.98 * threads * took ? rounds : disturbed).push_back(took);
  }
  std::vector<double>& counted = rounds.empty() ? disturbed : rounds;
  std::nth_element(counted.begin(), counted.begin() + static_cast<int64_t>(counted.size() / 2), counted.end());
  return {counted[counted.size() / 2], static_cast<int64_t>(rounds.size())};
}

void check(const BenchCase& bench, const StoredOperand& a, const StoredOperand& b, const Table<float>& out, bool bf16) {
  for (int64_t i = 0; i < 200; ++i) {
    const int64_t row = i * 7919 % bench.sizes.rows, column = i * 104729 % bench.sizes.columns;
    double sum = 0, size = 0;
    for (int64_t k = 0; k < bench.sizes.inputs; ++k) {
      const double product = static_cast<double>(a.at(row, k)) * b.at(column, k);
      sum += product;
      size += std::fabs(product);
    }
    CHECK(std::fabs(out.at(row, column) - sum) <= size * (bf16 ? 0x1p-7 : 0x1p-18));
  }
}

Timing measure(const BenchCase& bench, const Kernels& kernels, Pool& pool, bool bf16) {
  const GemmSizes& sizes = bench.sizes;
  const StoredOperand a(sizes.rows, sizes.inputs, bench.a_transposed, 1);
  const StoredOperand b(sizes.columns, sizes.inputs, bench.b_transposed, 2);
  Table<float> out(sizes.rows, sizes.columns);
  GemmProduct product = {bf16 ? kernels.gemm->bf16_form : GemmForm::kF32, sizes, a.operand(), b.operand()};
  product.out = out.row(0);
  product.out_stride = out.stride;
  PreparedProduct prepared(kernels, product, pool.num_threads(), bench.packing);
  pool.run(prepared);
  check(bench, a, b, out, bf16);
  return time_rounds(pool.num_threads(), [&] { pool.run(prepared); });
}

// Multiply-adds on registers alone, all threads, in GFLOP/s: the best of a few short rounds.
double limit_of(const Kernels& kernels, Pool& pool, bool bf16) {
  constexpr int64_t kIterations = 1 << 18;
  const auto multiply = bf16 ? kernels.limits->multiply_bf16 : kernels.limits->multiply_f32;
  std::atomic<int64_t> operations{0};
  double best = 1e30;
  for (int round = 0; round < 20; ++round) {
    const double start = now_us();
    pool.parallel_for(0, pool.num_threads(), 1, [&](int64_t, int64_t) { operations = multiply(kIterations); });
    best = std::min(best, now_us() - start);
  }
  return static_cast<double>(operations) * kIterations * pool.num_threads() / best * 1e-3;
}

}  // namespace

int main(int argc, char** argv) {
  const Kernels& kernels = argc > 1 ? kernels_for(argv[1]) : default_kernels();
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const std::string wanted = argc > 3 ? argv[3] : "";
  Pool pool(threads, 1);
  std::string json = "{\"benchmark\": \"gemm\", \"isa\": \"" + std::string(kernels.isa) +
                     "\", \"threads\": " + std::to_string(threads) + ", \"cases\": [";
  for (const bool bf16 : {false, true}) {
    if (bf16 && kernels.gemm->bf16_form != GemmForm::kBF16Pairs) continue;
    for (const BenchCase& bench : kCases) {
      if (std::string(bench.name).find(wanted) == std::string::npos) continue;
      const double limit = limit_of(kernels, pool, bf16);
      const Timing timing = measure(bench, kernels, pool, bf16);
      const double microseconds = timing.microseconds;
      const double rate = 2e-3 * static_cast<double>(bench.sizes.rows * bench.sizes.columns * bench.sizes.inputs) / microseconds;
      std::printf("%-34s %-4s %9.1f us %7.1f GFLOP/s %5.1f %% of %.1f%s\n", bench.name, bf16 ? "bf16" : "f32",
                  microseconds, rate, 100 * rate / limit, limit, timing.rounds < 3 ? "  (disturbed)" : "");
      char line[256];
      std::snprintf(line, sizeof(line), "%s{\"case\": \"%s\", \"compute\": \"%s\", \"us\": %.1f, \"gflop_s\": %.1f, \"share\": %.4f, \"undisturbed_rounds\": %d}",
                    json.back() == '[' ? "" : ", ", bench.name, bf16 ? "bf16" : "f32", microseconds, rate, rate / limit,
                    static_cast<int>(timing.rounds));
      json += line;
    }
  }
  std::printf("%s]}\n", json.c_str());
  return num_failures.load() == 0 ? 0 : 1;
}
