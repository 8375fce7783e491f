#include "exec/all_threads.h"

#include <algorithm>
#include <vector>

namespace weft {

namespace {

// Every num_teams-th round of the loop, for one team.
class StridedLoop final : public Job {
 public:
  StridedLoop(int64_t first, int64_t step, int64_t count, int first_thread,
              const std::function<void(int64_t, int)>& body)
      : first_(first), step_(step), count_(count), first_thread_(first_thread), body_(body) {}
  int64_t num_phases() const override { return 1; }
  int64_t num_tiles(int64_t) const override { return std::max<int64_t>(0, (count_ - first_ + step_ - 1) / step_); }
  void run_tile(int64_t, int64_t tile, int thread) override { body_(first_ + tile * step_, first_thread_ + thread); }

 private:
  const int64_t first_, step_, count_;
  const int first_thread_;
  const std::function<void(int64_t, int)>& body_;
};

}  // namespace

void run_on_all(Pool& pool, int64_t count, const std::function<void(int64_t, int)>& body) {
  const int teams = pool.num_teams();
  std::vector<StridedLoop> loops;
  int first_thread = 0;
  for (int team = 0; team < teams; ++team) {
    loops.emplace_back(team, teams, count, first_thread, body);
    first_thread += pool.team(team).num_threads();
  }
  std::vector<Job*> jobs;
  for (StridedLoop& loop : loops) jobs.push_back(&loop);
  pool.run_teams(jobs);
}

}  // namespace weft
