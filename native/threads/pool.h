// The threads of a process that computes: made once, split in teams.
#pragma once

#include <stdint.h>

#include <functional>
#include <future>
#include <memory>
#include <vector>

#include "threads/job.h"
#include "threads/pool_context.h"
#include "threads/statistics.h"
#include "threads/task_queue.h"
#include "threads/team.h"

namespace weft {

struct PoolState;

// `num_threads` threads in `num_teams` teams of nearly equal size; whoever calls is one of the threads, so
// num_threads - 1 are started. Idle ones spin briefly and then sleep.
//
// All methods may be called from any thread, except that close() and resize() are refused within the pool's
// own tiles and tasks. After a fork the child can only destroy the pool (which then leaks its memory).
class Pool {
 public:
  static constexpr int kMaxThreads = 1024;

  // Throws Error(kValue) for a number of threads outside 1 .. kMaxThreads, of teams outside 1 .. num_threads,
  // or a bad spin_us (see PoolContext); Error(kThread) when the system refuses to start a thread.
  explicit Pool(int num_threads, int num_teams = 1, int64_t spin_us = PoolContext::kDefaultSpin);
  virtual ~Pool();  // release()
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int num_threads() const;
  int num_teams() const;
  bool is_closed() const;

  // Valid as long as the pool, also over a resize. Throws Error(kValue) for a bad index, Error(kThread) as
  // Team::run does.
  Team& team(int index);

  // Team::run and Team::parallel_for of team 0.
  void run(Job& job);
  void parallel_for(int64_t begin, int64_t end, int64_t grain,
                    const std::function<void(int64_t, int64_t)>& body);

  // Runs jobs[i] on team i, all at the same time; the caller helps wherever a team lacks its thread 0. All begin,
  // jobs[0] first, before any tile runs.
  // Returns when all are done, then rethrows the first error, by team. Throws Error(kValue) for more jobs
  // than teams or a null one.
  void run_teams(const std::vector<Job*>& jobs);

  // Has an idle worker run `task` once; its error is in the future. With the queue full the caller runs the
  // oldest waiting task first; a pool of one thread runs `task` before it returns.
  std::future<void> submit(std::function<void()> task);

  // Equals  for (i = 0; i < n; ++i) results[i] = body(i);  on team 0. Result must be default constructible.
  template <class Result>
  std::vector<Result> map(int64_t n, const std::function<Result(int64_t)>& body) {
    std::vector<Result> results(static_cast<size_t>(n));
    parallel_for(0, n, 1, [&](int64_t i, int64_t) { results[static_cast<size_t>(i)] = body(i); });
    return results;
  }

  // One entry a thread, ordered by team and thread; thread 0 of a team adds up all its callers.
  std::vector<ThreadStatistics> statistics() const;

  // Waits for tasks and runs that have begun, then goes on with another number of threads in as many teams.
  // Statistics start anew. Throws as the constructor does; when threads cannot be started the pool is left
  // with none but its callers.
  void resize(int num_threads);

  // Waits for all runs and for all tasks, also those that wait in the queue, and ends the threads. Later use
  // throws Error(kThread). Again: no effect.
  void close();

 protected:
  // What the destructor does, for one that must let go of a lock meanwhile: close(); from one of the pool's own
  // threads without waiting; in the child of a fork abandon(). The pool cannot be used after it.
  void release();
  // Leaves the threads as they are, with all that they may touch, for the rest of the process.
  void abandon();

 private:
  std::shared_ptr<PoolState> state_;
};

}  // namespace weft
