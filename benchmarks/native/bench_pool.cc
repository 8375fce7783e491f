// What a run of the pool costs: fork-join back to back and after pauses, phases within a run, imbalance.
//
//   bench_pool [threads] [--busy]     --busy: only the throughput test, for a machine with other busy processes
//
// Each case first checks that every tile ran once. Prints medians over repeats; the last line is JSON.
#include <stdint.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "threads/clock.h"
#include "threads/pool.h"

namespace {

using weft::now_ns;

// Phases of equal tiles; each tile spins for a number of multiply-adds.
class Spin final : public weft::Job {
 public:
  Spin(int64_t phases, int64_t tiles, int64_t work) : phases_(phases), tiles_(tiles), work_(work), counts_(64) {}
  int64_t num_phases() const override { return phases_; }
  int64_t num_tiles(int64_t) const override { return tiles_; }
  void run_tile(int64_t, int64_t, int thread) override {
    uint64_t x = 1;
    for (int64_t i = 0; i < work_; ++i) {
      x = x * 6364136223846793005u + 1442695040888963407u;
      asm volatile("" : "+r"(x));
    }
    ++counts_[static_cast<size_t>(thread)].tiles;
  }
  int64_t take_count() {
    int64_t total = 0;
    for (Count& count : counts_) total += std::exchange(count.tiles, 0);
    return total;
  }

 private:
  struct alignas(128) Count {
    int64_t tiles = 0;
  };
  const int64_t phases_, tiles_, work_;
  std::vector<Count> counts_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void check_count(Spin& job, int64_t expected) {
  const int64_t got = job.take_count();
  if (got == expected) return;
  std::fprintf(stderr, "expected %lld tiles, %lld ran\n", static_cast<long long>(expected),
               static_cast<long long>(got));
  std::exit(1);
}

// Median microseconds of one run, `pause_us` after the one before (spent busy, as Python would).
double fork_join_us(weft::Pool& pool, int64_t pause_us) {
  Spin job(1, pool.num_threads(), 0);
  const int repeats = pause_us == 0 ? 41 : 15;
  const int runs = pause_us == 0 ? 2000 : pause_us < 1000 ? 100 : 20;
  std::vector<double> medians;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    int64_t spent = 0;
    for (int i = 0; i < runs; ++i) {
      for (const int64_t until = now_ns() + pause_us * 1000; pause_us > 0 && now_ns() < until;) weft::cpu_pause();
      if (pause_us > 0 || i == 0) spent -= now_ns();
      pool.run(job);
      if (pause_us > 0 || i == runs - 1) spent += now_ns();
    }
    medians.push_back(static_cast<double>(spent) / runs / 1000.0);
  }
  check_count(job, int64_t{repeats} * runs * pool.num_threads());
  return median(medians);
}

// Microseconds from one phase to the next, within a run, beyond the work of its tiles.
double phase_us(weft::Pool& pool, int64_t tiles, int64_t work) {
  constexpr int64_t kPhases = 2000;
  Spin job(kPhases, tiles, work);
  std::vector<double> all;
  for (int repeat = 0; repeat < 41; ++repeat) {
    const int64_t start = now_ns();
    pool.run(job);
    all.push_back(static_cast<double>(now_ns() - start) / 1000.0 / kPhases);
    check_count(job, kPhases * tiles);
  }
  return median(all);
}

// Runs of 120 phases, 16 tiles of about 5 us each, per second: the shape of a generated token.
double runs_per_second(weft::Pool& pool, double seconds) {
  Spin job(120, 16, 3000);
  const int64_t start = now_ns();
  int64_t runs = 0;
  while (static_cast<double>(now_ns() - start) < seconds * 1e9) {
    pool.run(job);
    check_count(job, 120 * 16);
    ++runs;
  }
  return static_cast<double>(runs) * 1e9 / static_cast<double>(now_ns() - start);
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 && argv[1][0] != '-' ? std::atoi(argv[1]) : 2;
  const bool busy = std::strcmp(argv[argc - 1], "--busy") == 0;
  weft::Pool pool(threads);
  weft::Pool alone(1);
  if (busy) {
    double one = 0, many = 0;
    for (int i = 0; i < 4; ++i) {
      one += runs_per_second(alone, 2) / 4;
      many += runs_per_second(pool, 2) / 4;
    }
    std::printf("{\"threads\": %d, \"runs_per_s_1\": %.2f, \"runs_per_s\": %.2f, \"ratio\": %.3f}\n", threads, one,
                many, many / one);
    return 0;
  }
  std::string json = "{\"threads\": " + std::to_string(threads);
  const auto report = [&](const std::string& name, double value) {
    std::printf("%-28s %10.3f\n", name.c_str(), value);
    json += ", \"" + name + "\": " + std::to_string(value);
  };
  for (const int64_t pause : {0, 5, 20, 100, 300, 3000})
    report("fork_join_us_after_" + std::to_string(pause), fork_join_us(pool, pause));
  report("phase_us_1_tile", phase_us(pool, 1, 0));
  report("phase_us_tile_a_thread", phase_us(pool, threads, 0));
  report("phase_us_8_tiles_a_thread", phase_us(pool, 8 * threads, 0));
  const double one = runs_per_second(alone, 1), many = runs_per_second(pool, 1);
  report("runs_per_s_1_thread", one);
  report("runs_per_s", many);
  report("speed_up", many / one);
  std::printf("%s}\n", json.c_str());
}
