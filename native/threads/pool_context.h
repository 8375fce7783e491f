// What all teams of one pool share: whether it may be used, and how its threads wait.
#pragma once

#include <stdint.h>

#include <atomic>

#include "threads/parking.h"
#include "threads/process.h"

namespace weft {

struct PoolContext {
  PoolContext(int num_threads, int64_t spin_us);

  // Throws Error(kThread) when the pool is closed, was made before a fork, or when the calling thread is
  // inside one of its tiles.
  void check_usable() const;
  void check_open() const;
  void check_not_forked() const;
  [[noreturn]] void throw_closed() const;
  bool is_forked() const { return fork_generation != weft::fork_generation(); }

  const uint64_t fork_generation;
  std::atomic<bool> closed{false};
  std::atomic<int64_t> spin_us;      // as asked for; kDefaultSpin: by WEFT_SPIN_US, else as measured
  std::atomic<int> num_cores{1};     // this process may use; more threads than these are not woken

  // What waiting costs while a run goes on, and between runs.
  WaitPolicy in_run() const;
  WaitPolicy idle() const;
  void set_threads(int num_threads);  // decides whether there are more threads than cores

  static constexpr int64_t kDefaultSpin = -1;

 private:
  std::atomic<bool> oversubscribed_{false};
};

// Marks the calling thread as being inside a tile of a pool, for the life of the object. The run may itself come
// from within tiles, of other pools: whoever works on it is inside those, too, whichever thread it is. Otherwise a
// tile could wait for a run that waits for this tile.
class InsideTile {
 public:
  // outer: current() of the thread that called the run, which keeps it until the run's end.
  InsideTile(const PoolContext& pool, const InsideTile* outer);
  ~InsideTile();
  InsideTile(const InsideTile&) = delete;
  InsideTile& operator=(const InsideTile&) = delete;

  // Whether this thread is inside a tile of `pool`, perhaps within a tile of another pool.
  static bool of(const PoolContext& pool);
  // The innermost tile that this thread is inside of, or null.
  static const InsideTile* current();

 private:
  const PoolContext* pool_;
  const InsideTile* outer_;
  const InsideTile* before_;  // of this thread
};

}  // namespace weft
