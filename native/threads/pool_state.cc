#include "threads/pool_state.h"

#include <string>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "threads/process.h"

namespace weft {
namespace {

// The pool whose worker this thread is, or whose task it runs.
thread_local const PoolState* working_for = nullptr;

class WorkingFor {
 public:
  explicit WorkingFor(const PoolState* pool) : before_(working_for) { working_for = pool; }
  ~WorkingFor() { working_for = before_; }

 private:
  const PoolState* before_;
};

}  // namespace

PoolState::PoolState(int threads, int num_teams, int64_t spin_us)
    : context(threads, spin_us), num_threads(threads) {
  for (int i = 0; i < num_teams; ++i)
    teams.emplace_back(new Team(context, team_threads(threads, num_teams, i)));
}

int PoolState::team_threads(int num_threads, int num_teams, int team) {
  return num_threads / num_teams + (team < num_threads % num_teams ? 1 : 0);
}

void PoolState::start_workers(int threads) {
  const int num_teams = static_cast<int>(teams.size());
  stop.store(Stop::kNo);
  {
    const std::lock_guard<std::mutex> guard(workers_mutex);
    workers.reserve(static_cast<size_t>(threads));
  }
  const BlockSignals blocked;
  for (int team = 0; team < num_teams; ++team)
    for (int thread = team == 0 ? 1 : 0; thread < team_threads(threads, num_teams, team); ++thread)
      start_worker(team, thread);
  num_workers.store(static_cast<int>(workers.size()), std::memory_order_seq_cst);
}

void PoolState::start_worker(int team, int thread) {
  auto owned = std::make_unique<Worker>(team, thread);
  Worker& worker = *owned;
  try {
    worker.handle = std::thread([self = shared_from_this(), &worker] { self->worker_main(worker); });
    const std::lock_guard<std::mutex> guard(workers_mutex);
    workers.push_back(std::move(owned));
  } catch (const std::system_error& error) {
    const size_t started = workers.size();
    stop_workers(Stop::kAfterTask);
    run_waiting_tasks();
    throw Error(ErrorKind::kThread, "expected to start " + std::to_string(num_threads.load() - 1) +
                                        " threads, the system refused after " + std::to_string(started) + " (" +
                                        error.what() + "); use fewer threads or raise its limit");
  }
}

void PoolState::tell_workers_to_stop(Stop when) {
  stop.store(when, std::memory_order_seq_cst);
  for (const auto& team : teams) {
    team->idle_lot_.wake_all();
    team->leader_lot_.wake_all();
  }
}

void PoolState::stop_workers(Stop when) {
  num_workers.store(0, std::memory_order_seq_cst);
  tell_workers_to_stop(when);
  std::vector<std::unique_ptr<Worker>> stopped;
  {
    const std::lock_guard<std::mutex> guard(workers_mutex);
    stopped.swap(workers);
  }
  for (const auto& worker : stopped) worker->handle.join();
}

void PoolState::wake_for_task() {
  for (const auto& team : teams)
    if (team->idle_lot_.wake(1) || team->leader_lot_.wake(1)) return;
}

void PoolState::run_task(Task& task) {
  const WorkingFor scope(this);
  task();
}

void PoolState::run_waiting_tasks() {
  while (std::optional<Task> task = queue.pop()) run_task(*task);
}

bool PoolState::is_own_thread() const { return working_for == this || InsideTile::of(context); }

void PoolState::worker_main(Worker& worker) {
  name_this_thread(worker.team, worker.thread);
  const WorkingFor scope(this);
  Team& team = *teams[static_cast<size_t>(worker.team)];
  const bool leads = worker.thread == 0;
  const auto has_run = [&] { return leads ? team.seat_is_open() : team.has_run(); };
  const auto has_work = [&] { return has_run() || !queue.is_empty() || stop.load() != Stop::kNo; };
  for (;;) {
    const bool slept = wait_a_while(has_work, leads ? team.leader_lot_ : team.idle_lot_, context.idle());
    if (slept) ThreadCounters::add(worker.counters.num_parks, 1);
    const Stop when = stop.load(std::memory_order_seq_cst);
    if (when == Stop::kNo && has_run()) {
      if (leads) team.work_in_seat(worker.counters);
      if (!leads) team.work_until_end(worker.thread, worker.counters);
      continue;
    }
    if (when == Stop::kAfterTask) return;
    if (std::optional<Task> task = queue.pop()) {
      ThreadCounters::add(worker.counters.num_tasks, 1);
      (*task)();
    } else if (when == Stop::kAfterQueue) {
      return;
    }
  }
}

}  // namespace weft
