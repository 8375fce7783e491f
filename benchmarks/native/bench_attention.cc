// How fast attention is: decoding rows against bandwidth, prompt chunks against arithmetic.
//
//   bench_attention [isa] [threads] [f16|bf16|f32] [part of a name]
//
// Each case is checked against double precision before it is timed; medians over repeated runs that walk
// through the layers of a cache larger than the processor's own caches. The last line is JSON.
#include <chrono>
#include <cstdio>

#include "../../tests/native/attention_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

struct BenchCase {
  const char* name;
  Shape shape;
  std::vector<Sequence> sequences;
  int64_t layers;
};

struct Timing {
  double microseconds;
  double gigabytes_per_second;  // of keys and values read once for each sequence
  double gigaflops;             // of visible tokens: 4 * head_dim for each query and token
};

double now_us() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

Timing rates(const BenchCase& bench, double microseconds) {
  double bytes = 0, flops = 0;
  const Shape& shape = bench.shape;
  for (const Sequence& sequence : bench.sequences) {
    bytes += 2.0 * dtype_bytes(shape.dtype) * shape.kv_heads * shape.head_dim * (sequence.past + sequence.num_rows);
    const double tokens = sequence.num_rows * (sequence.past + (sequence.num_rows + 1) / 2.0);
    flops += 4.0 * shape.kv_heads * shape.group * shape.head_dim * tokens;
  }
  return {microseconds, bytes / microseconds * 1e-3, flops / microseconds * 1e-3};
}

Timing measure(const BenchCase& bench, const Kernels& kernels, int threads) {
  const Problem problem(bench.shape, bench.sequences, 1, bench.layers);
  problem.check({problem.run(kernels)}, problem.rounds(kernels), std::max<int64_t>(1, problem.q.rows / 8 + 1));
  Table<float> out(problem.q.rows, problem.width());
  Pool pool(threads, 1);
  std::vector<PreparedOp> ops;
  for (int64_t layer = 0; layer < bench.layers; ++layer)
    ops.push_back(problem.runner(layer, problem.q, problem.sequence_rows, out).prepare(kernels, threads));
  std::vector<double> rounds;
  const double begin = now_us();
  while (rounds.size() < 5 || now_us() - begin < 5e5) {
    const double start = now_us();
    for (PreparedOp& op : ops) op.run(pool.team(0));
    rounds.push_back((now_us() - start) / static_cast<double>(bench.layers));
  }
  std::nth_element(rounds.begin(), rounds.begin() + rounds.size() / 2, rounds.end());
  return rates(bench, rounds[rounds.size() / 2]);
}

std::vector<BenchCase> cases(DType dtype) {
  const Shape small = {3, 3, 64, 0, dtype}, large = {8, 4, 128, 0, dtype}, single = {12, 1, 64, 0, dtype};
  const auto many = [](int64_t count, int64_t past) { return std::vector<Sequence>(count, Sequence{past, 1}); };
  return {{"decode 1 x 16, d64 9/3", small, many(1, 15), 30},
          {"decode 1 x 128, d64 9/3", small, many(1, 127), 30},
          {"decode 1 x 500, d64 9/3", small, many(1, 499), 30},
          {"decode 1 x 2000, d64 9/3", small, many(1, 1999), 30},
          {"decode 64 x 16, d64 9/3", small, many(64, 15), 30},
          {"decode 64 x 48, d64 9/3", small, many(64, 47), 30},
          {"decode 64 x 48, third cache, d64 9/3", small, many(64, 47), 2},
          {"decode 8 x 48, second cache, d64 9/3", small, many(8, 47), 2},
          {"decode 64 x 128, d64 9/3", small, many(64, 127), 30},
          {"decode 64 x 500, d64 9/3", small, many(64, 499), 10},
          {"decode 1 x 500, d64 12/12", single, many(1, 499), 30},
          {"decode 64 x 500, d64 12/12", single, many(64, 499), 4},
          {"decode 1 x 2000, d128 32/8", large, many(1, 1999), 8},
          {"decode 64 x 500, d128 32/8", large, many(64, 499), 2},
          {"prompt 512 after 0, d64 9/3", small, {{0, 512}}, 8},
          {"prompt 30 after 0, d64 9/3", small, {{0, 30}}, 30},
          {"prompt 30 after 800, d64 9/3", small, {{800, 30}}, 30},
          {"prompt 512 after 1536, d64 9/3", small, {{1536, 512}}, 4},
          {"prompt 128 after 0, d64 9/3", small, {{0, 128}}, 8},
          {"prompt 512 after 0, d128 32/8", large, {{0, 512}}, 2},
          {"prompt 512 after 0, d64 12/12", single, {{0, 512}}, 4},
          {"512 after 0 and 32 x 300, d64 9/3", small,
           [&] { auto list = many(32, 300); list.push_back({0, 512}); return list; }(), 8}};
}

}  // namespace

int main(int argc, char** argv) {
  const Kernels& kernels = argc > 1 ? kernels_for(argv[1]) : default_kernels();
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const std::string dtype = argc > 3 ? argv[3] : "f16", wanted = argc > 4 ? argv[4] : "";
  std::string json = "{\"benchmark\": \"attention\", \"isa\": \"" + std::string(kernels.isa) + "\", \"threads\": " +
                     std::to_string(threads) + ", \"dtype\": \"" + dtype + "\", \"cases\": [";
  for (const BenchCase& bench : cases(dtype == "bf16" ? DType::kBF16 : dtype == "f32" ? DType::kF32 : DType::kF16)) {
    if (std::string(bench.name).find(wanted) == std::string::npos) continue;
    const Timing timing = measure(bench, kernels, threads);
    std::printf("%-36s %10.2f us %8.2f GB/s %8.1f GFLOP/s\n", bench.name, timing.microseconds,
                timing.gigabytes_per_second, timing.gigaflops);
    char line[256];
    std::snprintf(line, sizeof(line), "%s{\"case\": \"%s\", \"us\": %.3f, \"gb_s\": %.3f, \"gflop_s\": %.2f}",
                  json.back() == '[' ? "" : ", ", bench.name, timing.microseconds, timing.gigabytes_per_second,
                  timing.gigaflops);
    json += line;
  }
  std::printf("%s]}\n", json.c_str());
  return num_failures.load() == 0 ? 0 : 1;
}
