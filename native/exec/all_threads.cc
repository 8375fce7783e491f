#include "exec/all_threads.h"

#include <algorithm>
#include <vector>

namespace weft {

namespace {

// Every num_teams-th round of the loop, for one team. Teams begin one after another, and add up their threads.
class StridedLoop final : public Job {
 public:
  StridedLoop(int64_t first, int64_t step, int64_t count, int& total_threads,
              const std::function<void(int64_t, int)>& body, const std::function<void(int)>& begin)
      : first_(first), step_(step), count_(count), total_threads_(total_threads), body_(body), begin_(begin) {}
  void begin(int num_threads) override {
    first_thread_ = total_threads_;
    total_threads_ += num_threads;
    if (begin_) begin_(total_threads_);
  }
  int64_t num_phases() const override { return 1; }
  int64_t num_tiles(int64_t) const override { return std::max<int64_t>(0, (count_ - first_ + step_ - 1) / step_); }
  void run_tile(int64_t, int64_t tile, int thread) override { body_(first_ + tile * step_, first_thread_ + thread); }

 private:
  const int64_t first_, step_, count_;
  int& total_threads_;
  int first_thread_ = 0;
  const std::function<void(int64_t, int)>& body_;
  const std::function<void(int)>& begin_;
};

}  // namespace

void run_on_all(Pool& pool, int64_t count, const std::function<void(int64_t, int)>& body,
                const std::function<void(int)>& begin) {
  const int teams = pool.num_teams();
  std::vector<StridedLoop> loops;
  int total_threads = 0;
  for (int team = 0; team < teams; ++team) loops.emplace_back(team, teams, count, total_threads, body, begin);
  std::vector<Job*> jobs;
  for (StridedLoop& loop : loops) jobs.push_back(&loop);
  pool.run_teams(jobs);
}

}  // namespace weft
