// How near attention within sequences, and its gradient, come to the processor's multiply-add rate.
//
//   bench_sequence_attention [isa] [threads] [bf16]
//
// Each case is checked against double precision before it is timed; medians. The rate counts visible pairs of
// tokens: 4 * head_dim operations for each forward, 10 * head_dim backward. The last line is JSON.
#include <chrono>
#include <cstdio>

#include "../../tests/native/sequence_attention_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

struct BenchCase {
  const char* name;
  SequenceShape shape;
  std::vector<int64_t> lengths;
};

double now_us() {
  using namespace std::chrono;
  return duration<double, std::micro>(steady_clock::now().time_since_epoch()).count();
}

double median_us(PreparedOp& op, Pool& pool) {
  std::vector<double> rounds;
  const double begin = now_us();
  while (rounds.size() < 5 || now_us() - begin < 1e6) {
    const double start = now_us();
    op.run(pool.team(0));
    rounds.push_back(now_us() - start);
  }
  std::nth_element(rounds.begin(), rounds.begin() + rounds.size() / 2, rounds.end());
  return rounds[rounds.size() / 2];
}

double visible_pairs(const BenchCase& bench) {
  double pairs = 0;
  for (const int64_t rows : bench.lengths)
    for (int64_t row = 0; row < rows; ++row) pairs += bench.shape.window > 0 ? std::min(row + 1, bench.shape.window) : row + 1;
  return pairs * bench.shape.kv_heads * bench.shape.group;
}

}  // namespace

int main(int argc, char** argv) {
  const Kernels& kernels = argc > 1 ? kernels_for(argv[1]) : default_kernels();
  const int threads = argc > 2 ? std::atoi(argv[2]) : 2;
  const bool rounds_to_bf16 = argc > 3 && std::string(argv[3]) == "bf16";
  const std::vector<BenchCase> cases = {{"8 x 256, d64 9/3", {3, 3, 64}, std::vector<int64_t>(8, 256)},
                                        {"1 x 2048, d64 9/3", {3, 3, 64}, {2048}},
                                        {"8 x 256, d64 6/6", {6, 1, 64}, std::vector<int64_t>(8, 256)},
                                        {"8 x 256, d128 8/2", {2, 4, 128}, std::vector<int64_t>(8, 256)},
                                        {"1 x 2048, d64 9/3, window 256", {3, 3, 64, 256}, {2048}}};
  std::string json = "{\"benchmark\": \"sequence_attention\", \"isa\": \"" + std::string(kernels.isa) +
                     "\", \"threads\": " + std::to_string(threads) + ", \"bf16\": " + (rounds_to_bf16 ? "true" : "false") + ", \"cases\": [";
  Pool pool(threads, 1);
  for (const BenchCase& bench : cases) {
    SequenceProblem problem(bench.shape, bench.lengths, 1);
    problem.rounds_to_bf16 = rounds_to_bf16;
    SequenceProblem::Results results = problem.run(kernels);
    if (bench.lengths.size() > 1) problem.check({results}, 1);
    PreparedOp forward = problem.forward(results).prepare(kernels, threads);
    PreparedOp backward = problem.backward(results).prepare(kernels, threads);
    const double us[2] = {median_us(forward, pool), median_us(backward, pool)};
    const double flops = visible_pairs(bench) * bench.shape.head_dim;
    char line[256];
    std::printf("%-32s forward %9.1f us %7.1f GFLOP/s   backward %9.1f us %7.1f GFLOP/s\n", bench.name, us[0],
                4e-3 * flops / us[0], us[1], 10e-3 * flops / us[1]);
    std::snprintf(line, sizeof(line), "%s{\"case\": \"%s\", \"forward_gflop_s\": %.2f, \"backward_gflop_s\": %.2f}",
                  json.back() == '[' ? "" : ", ", bench.name, 4e-3 * flops / us[0], 10e-3 * flops / us[1]);
    json += line;
  }
  std::printf("%s]}\n", json.c_str());
  return num_failures.load() == 0 ? 0 : 1;
}
