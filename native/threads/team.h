// A group of threads that runs one job at a time.
#pragma once

#include <stdint.h>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "threads/fifo_lock.h"
#include "threads/job.h"
#include "threads/phase_board.h"
#include "threads/pool_context.h"
#include "threads/solo.h"
#include "threads/statistics.h"

namespace weft {

// Made by a Pool and valid as long as it. Whoever calls run() is the team's thread 0; the pool's workers are
// its threads 1 and up. A run needs none of them: what a sleeping thread does not claim others steal, so the
// caller waits for tiles that are being run, never for threads.
class Team {
 public:
  // Runs `job` as the serial loop in threads/job.h. Rethrows the first error of a tile; the team can be used
  // again after it. Any thread may call; calls are served one at a time, in the order they came.
  // Throws Error(kThread) when the pool is closed or was made before a fork, or from within one of its tiles.
  void run(Job& job);

  // Equals  for (first = begin; first < end; first += grain) body(first, min(first + grain, end));
  // in any order and on any of the team's threads. Throws Error(kValue) for grain < 1, else as run().
  void parallel_for(int64_t begin, int64_t end, int64_t grain,
                    const std::function<void(int64_t, int64_t)>& body);

  int num_threads() const { return num_threads_.load(std::memory_order_relaxed); }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

 private:
  friend class Pool;
  friend struct PoolState;

  Team(const PoolContext& context, int num_threads);
  void resize(int num_threads);  // no run, no worker

  // The parts of a run. The caller holds lock_ from prepare() to end().
  bool prepare(Job& job);  // asks the job for its phases; false: nothing to do
  void run_alone();
  void run_together();
  void start();            // publishes the first phase and wakes threads
  void open_seat();        // lets whoever comes first be thread 0 of the started run
  void work_until_end(int thread, ThreadCounters& counters, std::optional<uint64_t> last_epoch = {});
  void wait_for_end(ThreadCounters& counters);
  std::exception_ptr end();

  // For the workers.
  bool has_run() const { return board_->current().tiles() > 0; }
  bool seat_is_open() const { return (seat_.load(std::memory_order_seq_cst) & 1) != 0; }
  void work_in_seat(ThreadCounters& counters);  // if it is open, as thread 0, until the end of its run

  int64_t work_on(PhaseWord phase, int thread, ThreadCounters& counters);
  void run_tiles(PhaseWord phase, int64_t first, int64_t count, int thread);
  void advance(uint64_t epoch);
  void wake_for_phase(int64_t tiles);

  struct Phase {
    int64_t index;
    int64_t tiles;
  };

  const PoolContext& context_;
  FifoLock lock_;
  std::atomic<int> num_threads_;
  std::unique_ptr<PhaseBoard> board_;

  // The run. Written by the caller before the first phase is published, read by holders of claims.
  Job* job_ = nullptr;
  const InsideTile* caller_tile_ = nullptr;
  std::vector<Phase> phases_;  // those that have tiles
  uint64_t first_epoch_ = 0;   // of phases_[0]
  std::exception_ptr error_;   // by whoever set failed_
  std::atomic<bool> failed_{false};

  // Thread 0 of a run whose caller is busy with another team: (last epoch of that run, is open). Whoever
  // closes it works as thread 0 up to that epoch and not beyond, so a late one cannot enter the next run.
  std::atomic<uint64_t> seat_{0};

  ParkingLot run_lot_;     // threads of a run that wait for others
  ParkingLot idle_lot_;    // workers without a run
  ParkingLot leader_lot_;  // the worker that waits for an open seat
  ThreadCounters caller_counters_;
  SoloPolicy solo_;  // by the caller
};

}  // namespace weft
