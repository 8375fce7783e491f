// Team::run against the serial loop it equals: every tile once, in bounds, in order of phases, whatever the
// threads, the sizes, the stealing and the contention.
#include "threads/pool.h"

#include <atomic>
#include <barrier>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/native/check.h"
#include "threads/clock.h"

namespace {

using weft::Job;
using weft::Pool;

void spin_for_ns(int64_t ns) {
  for (const int64_t until = weft::now_ns() + ns; weft::now_ns() < until;) weft::cpu_pause();
}

// Checks the contract from within. Tiles are plain (not atomic) memory on purpose: ThreadSanitizer then
// proves that phases order all writes, and that an index is never used by two threads at once.
class Checked final : public Job {
 public:
  explicit Checked(std::vector<int64_t> tiles, int64_t tile_ns = 0) : tile_ns_(tile_ns) {
    for (const int64_t count : tiles) visits_.emplace_back(static_cast<size_t>(count), 0);
  }
  void begin(int num_threads) override { scratch_.assign(static_cast<size_t>(num_threads), Scratch{}); }
  int64_t num_phases() const override { return static_cast<int64_t>(visits_.size()); }
  int64_t num_tiles(int64_t phase) const override {
    return static_cast<int64_t>(visits_[static_cast<size_t>(phase)].size());
  }
  void run_tile(int64_t phase, int64_t tile, int thread) override {
    if (thread < 0 || thread >= static_cast<int>(scratch_.size()) || phase < 0 || phase >= num_phases() ||
        tile < 0 || tile >= num_tiles(phase)) {
      CHECK(!"a tile out of bounds");
      return;
    }
    Scratch& scratch = scratch_[static_cast<size_t>(thread)];
    CHECK(!scratch.in_use);
    scratch.in_use = true;
    check_phase_before(phase, tile);
    if (tile_ns_ > 0) spin_for_ns(tile % 3 == 0 ? 3 * tile_ns_ : tile_ns_);
    ++visits_[static_cast<size_t>(phase)][static_cast<size_t>(tile)];
    ++scratch.tiles;
    scratch.in_use = false;
  }
  void check_done(int times = 1) const {
    for (const auto& phase : visits_)
      for (const int count : phase) CHECK_EQUAL(count, times);
  }
  int64_t num_threads_used() const {
    int64_t used = 0;
    for (const Scratch& scratch : scratch_) used += scratch.tiles > 0;
    return used;
  }

 private:
  struct alignas(128) Scratch {
    bool in_use = false;
    int64_t tiles = 0;
  };

  // Looks at one tile of the last phase before that has any; over all tiles, at each of them.
  void check_phase_before(int64_t phase, int64_t tile) const {
    for (int64_t p = phase - 1; p >= 0; --p) {
      const auto& before = visits_[static_cast<size_t>(p)];
      if (before.empty()) continue;
      const auto& own = visits_[static_cast<size_t>(phase)];
      CHECK(before[static_cast<size_t>(tile) % before.size()] == own[static_cast<size_t>(tile)] + 1);
      return;
    }
  }

  const int64_t tile_ns_;
  std::vector<std::vector<int>> visits_;
  std::vector<Scratch> scratch_;
};

class Throwing final : public Job {
 public:
  Throwing(int64_t phases, int64_t tiles, int64_t bad_phase, int64_t bad_tile)
      : phases_(phases), tiles_(tiles), bad_phase_(bad_phase), bad_tile_(bad_tile) {}
  int64_t num_phases() const override { return phases_; }
  int64_t num_tiles(int64_t) const override { return tiles_; }
  void run_tile(int64_t phase, int64_t tile, int) override {
    num_run.fetch_add(1, std::memory_order_relaxed);
    CHECK(phase <= bad_phase_);
    if (phase == bad_phase_ && (tile == bad_tile_ || bad_tile_ < 0)) throw std::runtime_error("tile failed");
  }
  std::atomic<int64_t> num_run{0};

 private:
  const int64_t phases_, tiles_, bad_phase_, bad_tile_;
};

constexpr int kThreadCounts[] = {1, 2, 3, 8};

void every_tile_once() {
  for (const int threads : kThreadCounts) {
    Pool pool(threads);
    const int64_t n = threads;
    for (const int64_t tiles : {int64_t{0}, int64_t{1}, n - 1, n, n + 1, 2 * n + 1, int64_t{1000}})
      for (const int64_t phases : {0, 1, 2, 7}) {
        Checked job(std::vector<int64_t>(static_cast<size_t>(phases), tiles));
        for (int times = 1; times <= 3; ++times) {
          pool.run(job);
          job.check_done(times);
        }
      }
  }
}

void phases_of_different_sizes() {
  std::vector<int64_t> tiles;
  for (int64_t phase = 0; phase < 500; ++phase) tiles.push_back(phase % 5 == 0 ? 0 : phase * 7 % 23);
  tiles.insert(tiles.end(), {0, 0, 3, 0});
  for (const int threads : kThreadCounts) {
    Pool pool(threads);
    Checked job(tiles);
    for (int times = 1; times <= 20; ++times) {
      pool.run(job);
      job.check_done(times);
    }
  }
}

void uneven_tiles_are_stolen() {
  for (const int threads : {2, 3}) {
    Pool pool(threads);
    Checked job(std::vector<int64_t>(20, 31), 2000);
    for (int times = 1; times <= 5; ++times) {
      pool.run(job);
      job.check_done(times);
    }
    int64_t tiles = 0;
    for (const auto& thread : pool.statistics()) tiles += thread.num_tiles;
    CHECK_EQUAL(tiles, 5 * 20 * 31);
  }
}

// A worker that is busy with a submitted task takes no part: the caller must not wait for it.
void run_does_not_wait_for_busy_workers() {
  Pool pool(2);
  std::atomic<bool> begun{false}, release{false};
  std::future<void> task = pool.submit([&] {
    begun = true;
    while (!release) std::this_thread::yield();
  });
  while (!begun) std::this_thread::yield();
  Checked job(std::vector<int64_t>(50, 8));
  pool.run(job);
  job.check_done();
  CHECK_EQUAL(job.num_threads_used(), 1);
  int64_t steals = 0;
  for (const auto& thread : pool.statistics()) steals += thread.num_steals;
  CHECK_EQUAL(steals, 50 * 4);
  release = true;
  task.get();
}

void contention_of_callers() {
  for (const int threads : {1, 2, 8}) {
    Pool pool(threads);
    constexpr int kCallers = 4;
    std::barrier start(kCallers);
    std::vector<std::thread> callers;
    for (int i = 0; i < kCallers; ++i)
      callers.emplace_back([&] {
        start.arrive_and_wait();
        for (int run = 0; run < 100; ++run) {
          auto job = std::make_unique<Checked>(std::vector<int64_t>{5, 1, 0, 9});
          pool.run(*job);
          job->check_done();
        }
      });
    for (auto& caller : callers) caller.join();
  }
}

// A job lives exactly as long as its run: late threads must not touch it (AddressSanitizer sees it).
void jobs_die_at_once() {
  for (const int threads : {2, 3, 8}) {
    Pool pool(threads);
    for (int run = 0; run < 2000; ++run) {
      auto job = std::make_unique<Checked>(std::vector<int64_t>{threads, 1, 2 * threads});
      pool.run(*job);
      job->check_done();
    }
  }
}

void busy_neighbours() {
  std::atomic<bool> stop{false};
  std::vector<std::thread> neighbours;
  for (int i = 0; i < 4; ++i)
    neighbours.emplace_back([&] {
      while (!stop) weft::cpu_pause();
    });
  {
    Pool pool(2), crowded(8);
    Checked small(std::vector<int64_t>(200, 8)), other(std::vector<int64_t>(200, 8));
    for (int times = 1; times <= 3; ++times) {
      pool.run(small);
      crowded.run(other);
      small.check_done(times);
      other.check_done(times);
    }
  }
  stop = true;
  for (auto& neighbour : neighbours) neighbour.join();
}

void error_in_a_tile() {
  for (const int threads : kThreadCounts) {
    Pool pool(threads);
    for (const int64_t bad_tile : {-1, 0, 7, 15}) {
      Throwing job(6, 16, 2, bad_tile);
      bool thrown = false;
      try {
        pool.run(job);
      } catch (const std::runtime_error& error) {
        thrown = std::string(error.what()) == "tile failed";
      }
      CHECK(thrown);
      CHECK(job.num_run >= 2 * 16 + 1 && job.num_run <= 3 * 16);
      Checked after(std::vector<int64_t>(3, 9));
      pool.run(after);
      after.check_done();
    }
  }
}

void errors_before_the_first_tile() {
  struct BadCount final : Job {
    int64_t tiles;
    explicit BadCount(int64_t count) : tiles(count) {}
    int64_t num_phases() const override { return 2; }
    int64_t num_tiles(int64_t phase) const override { return phase == 0 ? 1 : tiles; }
    void run_tile(int64_t, int64_t, int) override { CHECK(!"must not run"); }
  };
  Pool pool(2);
  BadCount negative(-1), too_many(Job::kMaxTiles + 1);
  CHECK_ERROR(kPlan, pool.run(negative));
  CHECK_ERROR(kPlan, pool.run(too_many));
  Checked after({4});
  pool.run(after);
  after.check_done();
}

void nested_use_is_refused() {
  Pool pool(4, 2), other(2);
  std::atomic<int> inner{0};
  pool.parallel_for(0, 8, 1, [&](int64_t, int64_t) {
    const auto nothing = [](int64_t, int64_t) {};
    CHECK_ERROR(kThread, pool.parallel_for(0, 2, 1, nothing));
    CHECK_ERROR(kThread, pool.team(1).parallel_for(0, 2, 1, nothing));
    CHECK_ERROR(kThread, pool.close());
    CHECK_ERROR(kThread, pool.resize(2));
    other.parallel_for(0, 3, 1, [&](int64_t, int64_t) {
      CHECK_ERROR(kThread, pool.parallel_for(0, 2, 1, nothing));
      ++inner;
    });
  });
  CHECK_EQUAL(inner.load(), 24);
}

void parallel_for_equals_the_loop() {
  Pool pool(3);
  struct Range {
    int64_t begin, end, grain;
  };
  for (const Range r : {Range{0, 0, 1}, {5, 3, 2}, {-7, 20, 4}, {0, 1000, 7}, {0, 9, 100},
                        {INT64_MAX - 10, INT64_MAX, 4}, {INT64_MIN, INT64_MIN + 9, 4},
                        {INT64_MIN, INT64_MAX, int64_t{1} << 60}}) {
    std::vector<std::pair<int64_t, int64_t>> expected;
    for (int64_t first = r.begin; first < r.end;) {
      const bool last = static_cast<uint64_t>(r.end) - static_cast<uint64_t>(first) <= static_cast<uint64_t>(r.grain);
      expected.emplace_back(first, last ? r.end : first + r.grain);
      first = expected.back().second;
    }
    std::vector<std::atomic<int>> visits(expected.size());
    pool.parallel_for(r.begin, r.end, r.grain, [&](int64_t first, int64_t last) {
      const uint64_t offset = static_cast<uint64_t>(first) - static_cast<uint64_t>(r.begin);
      const size_t call = offset / static_cast<uint64_t>(r.grain);
      CHECK(call < expected.size() && expected[call] == std::make_pair(first, last));
      ++visits[call];
    });
    for (auto& count : visits) CHECK_EQUAL(count.load(), 1);
  }
  const auto nothing = [](int64_t, int64_t) {};
  CHECK_ERROR(kValue, pool.parallel_for(0, 4, 0, nothing));
  CHECK_ERROR(kValue, pool.parallel_for(INT64_MIN, INT64_MAX, 1, nothing));
}

void more_calls_than_tiles_of_a_phase() {
  Pool pool(2);
  const int64_t n = Job::kMaxTiles + 1000;
  std::atomic<int64_t> total{0};
  pool.parallel_for(0, n, 1, [&](int64_t first, int64_t) {
    if (first % 4096 == 0) total.fetch_add(first / 4096, std::memory_order_relaxed);
  });
  const int64_t last = (n - 1) / 4096;
  CHECK_EQUAL(total.load(), last * (last + 1) / 2);
}

void map_keeps_order() {
  Pool pool(2);
  const std::vector<int64_t> squares = pool.map<int64_t>(1000, [](int64_t i) { return i * i; });
  for (int64_t i = 0; i < 1000; ++i) CHECK_EQUAL(squares[static_cast<size_t>(i)], i * i);
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"every_tile_once", every_tile_once},
                          {"phases_of_different_sizes", phases_of_different_sizes},
                          {"uneven_tiles_are_stolen", uneven_tiles_are_stolen},
                          {"run_does_not_wait_for_busy_workers", run_does_not_wait_for_busy_workers},
                          {"contention_of_callers", contention_of_callers},
                          {"jobs_die_at_once", jobs_die_at_once},
                          {"busy_neighbours", busy_neighbours},
                          {"error_in_a_tile", error_in_a_tile},
                          {"errors_before_the_first_tile", errors_before_the_first_tile},
                          {"nested_use_is_refused", nested_use_is_refused},
                          {"parallel_for_equals_the_loop", parallel_for_equals_the_loop},
                          {"more_calls_than_tiles_of_a_phase", more_calls_than_tiles_of_a_phase},
                          {"map_keeps_order", map_keeps_order}});
}
