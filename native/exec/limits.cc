#include "exec/limits.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <functional>
#include <string>

#include "base/error.h"
#include "exec/trace.h"
#include "memory/available.h"
#include "memory/region.h"
#include "threads/parking.h"
#include "threads/process.h"

namespace weft {

namespace {

constexpr int kRounds = 15;
constexpr int64_t kIterations = 400'000;             // some milliseconds on registers
constexpr int64_t kBytesPerThread = int64_t{256} << 20;      // far beyond any cache of a core,
constexpr int64_t kLeastBytesPerThread = int64_t{32} << 20;  // and what memory must have for each, at least
constexpr int64_t kMostWaitNs = 60'000'000'000;
constexpr int kStreams[] = {1, 2, 4};

// The same piece of work once on each thread, and each on a core of its own: a tile begins when every tile has a
// thread, or an early thread would take the work of a late one.
class OneTilePerThread final : public Job {
 public:
  OneTilePerThread(int num_threads, std::function<void(int)> work) : num_threads_(num_threads), work_(std::move(work)) {}
  void begin(int num_threads) override {
    num_threads_ = std::min(num_threads_, num_threads);  // a pool may shrink meanwhile
    num_ready_.store(0);
  }
  int64_t num_phases() const override { return 1; }
  int64_t num_tiles(int64_t) const override { return num_threads_; }
  void run_tile(int64_t, int64_t tile, int) override {
    const OnOneCore core(static_cast<int>(tile));
    if (num_ready_.fetch_add(1) + 1 == num_threads_) begin_ns_ = steady_now_ns();
    wait_for_others();
    work_(static_cast<int>(tile));
  }

  // When the last thread of the run was ready.
  int64_t begin_ns() const { return begin_ns_; }

 private:
  // A pool that is being closed has no others any more.
  void wait_for_others() const {
    const int64_t begin = steady_now_ns();
    while (num_ready_.load() < num_threads_) {
      yield_processor();
      if (steady_now_ns() - begin > kMostWaitNs)
        throw Error(ErrorKind::kThread, "expected " + std::to_string(num_threads_) + " threads to measure with, " +
                                            std::to_string(num_ready_.load()) +
                                            " came; measure while the pool stays open and others leave it a processor");
    }
  }

  int num_threads_;
  std::function<void(int)> work_;
  std::atomic<int> num_ready_{0};
  int64_t begin_ns_ = 0;
};

// The best round: a limit is what the machine can do, and anything else that runs on it only takes away.
double least_seconds(Team& team, int num_threads, const std::function<void(int)>& work) {
  OneTilePerThread job(num_threads, work);
  team.run(job);  // warms up, and gives the memory its pages
  int64_t least = INT64_MAX;
  for (int round = 0; round < kRounds; ++round) {
    team.run(job);
    least = std::min(least, steady_now_ns() - job.begin_ns());
  }
  return 1e-9 * static_cast<double>(least);
}

// More threads than cores do no more, and a team wakes no more of them.
int measured_threads(const Team& team) { return std::min(team.num_threads(), affinity_cores()); }

double operations_per_second(Team& team, int64_t (*multiply)(int64_t)) {
  std::atomic<int64_t> per_round{0};
  const int num_threads = measured_threads(team);
  const double seconds = least_seconds(
      team, num_threads, [&](int) { per_round.store(multiply(kIterations), std::memory_order_relaxed); });
  return static_cast<double>(per_round.load()) * kIterations * num_threads / seconds;
}

// A quarter of the memory at most, in whole megabytes.
int64_t bytes_per_thread(int num_threads) {
  const int64_t available = available_bytes(), share = available / 4 / num_threads >> 20 << 20;
  if (share < kLeastBytesPerThread)
    throw Error(ErrorKind::kMemory, "measuring memory bandwidth takes a quarter of " +
                                        std::to_string(4 * num_threads * kLeastBytesPerThread) + " bytes, and " +
                                        std::to_string(available) + " are available; use fewer threads");
  return std::min(share, kBytesPerThread);
}

double read_bandwidth(Team& team, const LimitKernels& limits) {
  const int num_threads = measured_threads(team);
  const int64_t bytes = bytes_per_thread(num_threads);
  const Region memory(static_cast<size_t>(bytes * num_threads), "measuring memory bandwidth");
  const char* base = static_cast<const char*>(memory.data());
  std::memset(memory.data(), 1, memory.bytes());
  std::atomic<uint64_t> sink{0};
  double best = 0;
  for (const int streams : kStreams) {
    const double seconds = least_seconds(team, num_threads, [&](int thread) {
      sink.fetch_xor(limits.read(base + thread * bytes, bytes, streams), std::memory_order_relaxed);
    });
    best = std::max(best, static_cast<double>(memory.bytes()) / seconds);
  }
  return best;
}

}  // namespace

MachineLimits measure_limits(Team& team, const Kernels& kernels) {
  const LimitKernels& limits = *kernels.limits;
  return {operations_per_second(team, limits.multiply_f32), operations_per_second(team, limits.multiply_bf16),
          operations_per_second(team, limits.multiply_q8), operations_per_second(team, limits.multiply_q4),
          read_bandwidth(team, limits)};
}

}  // namespace weft
