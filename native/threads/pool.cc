#include "threads/pool.h"

#include <string>
#include <utility>

#include "base/error.h"
#include "threads/pool_state.h"

namespace weft {
namespace {

void check_threads(int num_threads, int num_teams) {
  if (num_threads < 1 || num_threads > Pool::kMaxThreads)
    throw Error(ErrorKind::kValue, "expected 1 to " + std::to_string(Pool::kMaxThreads) + " threads, got " +
                                       std::to_string(num_threads) + "; leave it out for the default");
  if (num_teams < 1 || num_teams > num_threads)
    throw Error(ErrorKind::kValue, "expected 1 to " + std::to_string(num_threads) +
                                       " teams (each has a thread), got " + std::to_string(num_teams) +
                                       "; use fewer teams or more threads");
}

void refuse_own_thread(const PoolState& state, const char* action) {
  if (state.is_own_thread())
    throw Error(ErrorKind::kThread, std::string("expected ") + action +
                                        " from outside of the pool, it came from one of its tiles or tasks, "
                                        "which it would wait for; call it where the pool was made");
}

// Runs that wait for their turn come first; none begins while this lives.
class AllTeamsLocked {
 public:
  explicit AllTeamsLocked(const std::vector<FifoLock*>& locks) : locks_(locks) {
    for (FifoLock* lock : locks_) lock->lock();
  }
  ~AllTeamsLocked() {
    for (FifoLock* lock : locks_) lock->unlock();
  }

 private:
  const std::vector<FifoLock*> locks_;
};

}  // namespace

Pool::Pool(int num_threads, int num_teams, int64_t spin_us) {
  check_threads(num_threads, num_teams);
  state_ = std::make_shared<PoolState>(num_threads, num_teams, spin_us);
  state_->start_workers(num_threads);
}

Pool::~Pool() { release(); }

void Pool::release() {
  if (state_ == nullptr) return;
  if (state_->context.is_forked()) return abandon();  // its threads are not here: nothing can be ended
  if (state_->is_own_thread()) {
    state_->context.closed.store(true);
    state_->tell_workers_to_stop(PoolState::Stop::kAfterQueue);
    for (const auto& worker : state_->workers) worker->handle.detach();
  } else {
    close();
  }
  state_.reset();
}

void Pool::abandon() {
  if (state_ != nullptr) new std::shared_ptr<PoolState>(std::move(state_));
}

int Pool::num_threads() const { return state_->num_threads.load(); }

int Pool::num_teams() const { return static_cast<int>(state_->teams.size()); }

bool Pool::is_closed() const { return state_->context.closed.load(); }

Team& Pool::team(int index) {
  if (index < 0 || index >= num_teams())
    throw Error(ErrorKind::kValue, "expected a team from 0 to " + std::to_string(num_teams() - 1) + ", got " +
                                       std::to_string(index) + "; make a pool of more teams");
  return *state_->teams[static_cast<size_t>(index)];
}

void Pool::run(Job& job) { team(0).run(job); }

void Pool::parallel_for(int64_t begin, int64_t end, int64_t grain,
                        const std::function<void(int64_t, int64_t)>& body) {
  team(0).parallel_for(begin, end, grain, body);
}

void Pool::run_teams(const std::vector<Job*>& jobs) {
  state_->context.check_usable();
  if (jobs.size() > state_->teams.size())
    throw Error(ErrorKind::kValue, "expected at most a job for each of the " + std::to_string(num_teams()) +
                                       " teams, got " + std::to_string(jobs.size()) + "; run them in turns");
  std::vector<FifoLock*> locks;
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (jobs[i] == nullptr) throw Error(ErrorKind::kValue, "expected a job for each team, got a null one");
    locks.push_back(&state_->teams[i]->lock_);
  }
  const AllTeamsLocked guard(locks);
  state_->context.check_open();

  std::vector<Team*> running;
  for (size_t i = 0; i < jobs.size(); ++i)
    if (state_->teams[i]->prepare(*jobs[i])) running.push_back(state_->teams[i].get());
  for (Team* team : running) {
    team->start();
    team->open_seat();
  }
  std::exception_ptr first_error;
  for (Team* team : running) {
    team->work_in_seat(team->caller_counters_);
    team->wait_for_end(team->caller_counters_);
    const std::exception_ptr error = team->end();
    if (error && !first_error) first_error = error;
  }
  if (first_error) std::rethrow_exception(first_error);
}

std::future<void> Pool::submit(std::function<void()> function) {
  PoolState& state = *state_;
  if (!InsideTile::of(state.context)) state.context.check_usable();
  state.context.check_open();
  Task task(std::move(function));
  std::future<void> result = task.get_future();
  for (;;) {
    const TaskQueue::Pushed pushed = state.queue.push(task);
    if (pushed == TaskQueue::Pushed::kYes) break;
    if (pushed == TaskQueue::Pushed::kShut) state.context.throw_closed();
    if (std::optional<Task> oldest = state.queue.pop()) state.run_task(*oldest);
  }
  if (state.has_workers()) state.wake_for_task();
  else state.run_waiting_tasks();
  return result;
}

std::vector<ThreadStatistics> Pool::statistics() const {
  state_->context.check_not_forked();
  const std::lock_guard<std::mutex> guard(state_->workers_mutex);
  const double ns_per_tick = state_->tick_rate.ns_per_tick();
  std::vector<ThreadStatistics> all;
  for (size_t team = 0; team < state_->teams.size(); ++team) {
    ThreadStatistics caller;
    caller.team = static_cast<int>(team);
    state_->teams[team]->caller_counters_.add_to(caller, ns_per_tick);
    all.push_back(caller);
    for (const auto& worker : state_->workers) {
      if (worker->team != caller.team) continue;
      if (worker->thread != 0) {
        all.push_back(ThreadStatistics{});
        all.back().team = worker->team;
        all.back().thread = worker->thread;
      }
      worker->counters.add_to(all.back(), ns_per_tick);
    }
  }
  return all;
}

void Pool::resize(int num_threads) {
  state_->context.check_usable();
  refuse_own_thread(*state_, "resize()");
  check_threads(num_threads, num_teams());
  const std::lock_guard<std::mutex> guard(state_->manage);
  state_->context.check_open();
  state_->stop_workers(PoolState::Stop::kAfterTask);
  {
    std::vector<FifoLock*> locks;
    for (const auto& team : state_->teams) locks.push_back(&team->lock_);
    const AllTeamsLocked none_runs(locks);
    for (int i = 0; i < num_teams(); ++i)
      state_->teams[static_cast<size_t>(i)]->resize(PoolState::team_threads(num_threads, num_teams(), i));
    state_->num_threads.store(num_threads);
    state_->context.set_threads(num_threads);
  }
  state_->start_workers(num_threads);
  if (!state_->has_workers()) state_->run_waiting_tasks();
}

void Pool::close() {
  if (state_->context.is_forked()) return;
  refuse_own_thread(*state_, "close()");
  const std::lock_guard<std::mutex> guard(state_->manage);
  if (is_closed()) return;
  state_->queue.shut();
  state_->stop_workers(PoolState::Stop::kAfterQueue);
  state_->run_waiting_tasks();
  std::vector<FifoLock*> locks;
  for (const auto& team : state_->teams) locks.push_back(&team->lock_);
  const AllTeamsLocked none_runs(locks);
  state_->context.closed.store(true);
}

}  // namespace weft
