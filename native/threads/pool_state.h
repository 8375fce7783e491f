// What a pool's threads share with it; it lives as long as the last of them.
#pragma once

#include <stdint.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "threads/clock.h"
#include "threads/pool_context.h"
#include "threads/statistics.h"
#include "threads/task_queue.h"
#include "threads/team.h"

namespace weft {

// A started thread. Thread 0 of a team, which is a caller otherwise, is its leader: it takes the open seat
// of Pool::run_teams.
struct Worker {
  Worker(int team_index, int thread_index) : team(team_index), thread(thread_index) {}
  const int team;
  const int thread;
  ThreadCounters counters;
  std::thread handle;
};

struct PoolState : std::enable_shared_from_this<PoolState> {
  enum class Stop : int { kNo, kAfterTask, kAfterQueue };

  PoolState(int num_threads, int num_teams, int64_t spin_us);

  void start_workers(int num_threads);
  // No worker is left when this returns. kAfterTask leaves waiting tasks in the queue.
  void stop_workers(Stop when);
  void tell_workers_to_stop(Stop when);
  void wake_for_task();
  void run_task(Task& task);  // as the calling thread
  void run_waiting_tasks();
  bool has_workers() const { return num_workers.load(std::memory_order_seq_cst) > 0; }
  // Whether the calling thread is a worker of this pool, or inside one of its tiles or tasks.
  bool is_own_thread() const;
  static int team_threads(int num_threads, int num_teams, int team);

  PoolContext context;
  TickRate tick_rate;
  std::vector<std::unique_ptr<Team>> teams;
  TaskQueue queue;
  std::vector<std::unique_ptr<Worker>> workers;  // by team, then thread; none while they are being stopped
  mutable std::mutex workers_mutex;              // held for moments: tasks may wait for it
  std::atomic<int> num_threads;
  std::atomic<int> num_workers{0};  // 0 as well while they are being stopped
  std::atomic<Stop> stop{Stop::kNo};
  std::mutex manage;  // close, resize: held while they wait for tasks

 private:
  void start_worker(int team, int thread);
  void worker_main(Worker& worker);
};

}  // namespace weft
