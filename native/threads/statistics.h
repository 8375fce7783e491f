// What each thread of a pool did.
#pragma once

#include <stdint.h>

#include <atomic>

namespace weft {

// One thread's totals since the pool was made or resized.
struct ThreadStatistics {
  int team = 0;
  int thread = 0;         // index in the team; 0 is whoever calls
  int64_t busy_ns = 0;    // in phases of runs, claiming and running tiles
  int64_t wait_ns = 0;    // within runs, for other threads' tiles
  int64_t num_tiles = 0;
  int64_t num_steals = 0;  // tiles from another thread's range
  int64_t num_parks = 0;   // times it went to sleep
  int64_t num_tasks = 0;   // submitted tasks
};

// The counters behind it: one writer at a time, any reader.
struct alignas(128) ThreadCounters {
  std::atomic<int64_t> busy_ticks{0};
  std::atomic<int64_t> wait_ticks{0};
  std::atomic<int64_t> num_tiles{0};
  std::atomic<int64_t> num_steals{0};
  std::atomic<int64_t> num_parks{0};
  std::atomic<int64_t> num_tasks{0};

  static void add(std::atomic<int64_t>& counter, int64_t amount) {
    counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }

  void reset() {
    for (auto* counter : {&busy_ticks, &wait_ticks, &num_tiles, &num_steals, &num_parks, &num_tasks})
      counter->store(0, std::memory_order_relaxed);
  }

  void add_to(ThreadStatistics& total, double ns_per_tick) const {
    const auto ns = [&](const std::atomic<int64_t>& ticks) {
      return static_cast<int64_t>(static_cast<double>(ticks.load(std::memory_order_relaxed)) * ns_per_tick);
    };
    total.busy_ns += ns(busy_ticks);
    total.wait_ns += ns(wait_ticks);
    total.num_tiles += num_tiles.load(std::memory_order_relaxed);
    total.num_steals += num_steals.load(std::memory_order_relaxed);
    total.num_parks += num_parks.load(std::memory_order_relaxed);
    total.num_tasks += num_tasks.load(std::memory_order_relaxed);
  }
};

}  // namespace weft
