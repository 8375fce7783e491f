// The teams of a pool: how they share its threads, run at once, meet each other, and fail.
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tests/native/check.h"
#include "tests/native/pool_jobs.h"
#include "threads/pool.h"

namespace {

using weft::Job;
using weft::Pool;
using weft::test::Counting;
using weft::test::Failing;

void teams_share_the_threads() {
  Pool pool(7, 3);
  CHECK_EQUAL(pool.team(0).num_threads(), 3);
  CHECK_EQUAL(pool.team(1).num_threads(), 2);
  CHECK_EQUAL(pool.team(2).num_threads(), 2);
  CHECK_EQUAL(pool.statistics().size(), size_t{7});
}

// Jobs of two teams that wait for each other end only if both run at the same time.
void teams_run_at_the_same_time() {
  Pool pool(2, 2);
  std::barrier meeting(2);
  std::vector<std::thread> callers;
  for (int team = 0; team < 2; ++team)
    callers.emplace_back([&, team] {
      for (int i = 0; i < 20; ++i)
        pool.team(team).parallel_for(0, 1, 1, [&](int64_t, int64_t) { meeting.arrive_and_wait(); });
    });
  for (auto& caller : callers) caller.join();
}

void run_teams_of_one_caller() {
  for (const int threads : {2, 4, 5}) {
    Pool pool(threads, 2);
    for (int run = 0; run < 300; ++run) {
      Counting a(5, 6), b(3, 9);
      pool.run_teams({&a, &b});
      a.check_done();
      b.check_done();
      Counting alone(2, 5);
      pool.team(1).run(alone);  // by an outside caller, after a leader held the seat
      alone.check_done();
    }
  }
}

void run_teams_meets_itself() {
  struct Meeting final : Job {
    std::barrier<>& barrier;
    explicit Meeting(std::barrier<>& meeting) : barrier(meeting) {}
    int64_t num_phases() const override { return 20; }
    int64_t num_tiles(int64_t) const override { return 1; }
    void run_tile(int64_t, int64_t, int) override { barrier.arrive_and_wait(); }
  };
  Pool pool(3, 3);
  std::barrier<> barrier(3);
  Meeting a(barrier), b(barrier), c(barrier);
  pool.run_teams({&a, &b, &c});
}

void run_teams_errors() {
  Pool pool(4, 2);
  Counting good(2, 3), empty(0, 0);
  Failing first("first"), second("second");
  CHECK_ERROR(kValue, pool.run_teams({&good, &good, &good}));
  CHECK_ERROR(kValue, pool.run_teams({&good, nullptr}));
  pool.run_teams({});
  pool.run_teams({&empty, &good});
  good.check_done();
  std::string message;
  try {
    pool.run_teams({&first, &second});
  } catch (const std::runtime_error& error) {
    message = error.what();
  }
  CHECK_EQUAL(message, std::string("first"));
  pool.run_teams({&good, &empty});
  good.check_done(2);
}

// Outside callers and run_teams compete for the same teams.
void mixed_callers_of_teams() {
  Pool pool(4, 2);
  std::barrier start(4);
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i)
    callers.emplace_back([&, i] {
      start.arrive_and_wait();
      for (int run = 0; run < 150; ++run) {
        Counting a(4, 5), b(2, 7);
        if (i < 2) {
          pool.run_teams({&a, &b});
        } else {
          pool.team(i - 2).run(a);
          pool.team(3 - i).run(b);
        }
        a.check_done();
        b.check_done();
      }
    });
  for (auto& caller : callers) caller.join();
}

void two_pools_at_once() {
  Pool one(2), other(3);
  std::barrier start(2);
  const auto use = [&](Pool& pool) {
    start.arrive_and_wait();
    for (int run = 0; run < 300; ++run) {
      Counting job(4, 7);
      pool.run(job);
      job.check_done();
    }
  };
  std::thread thread([&] { use(one); });
  use(other);
  thread.join();
}

// A short run whose other threads are held up at every tile.
class HeldUp final : public Job {
 public:
  bool is_short() const override { return true; }
  int64_t num_phases() const override { return 1; }
  int64_t num_tiles(int64_t) const override { return 100; }
  void run_tile(int64_t, int64_t, int thread) override {
    ++num_tiles_run;
    others_came = others_came || thread != 0;
    std::this_thread::sleep_for(std::chrono::microseconds(thread == 0 ? 20 : 2000));
  }
  std::atomic<int> num_tiles_run{0};
  std::atomic<bool> others_came{false};
};

void short_runs_are_left_to_a_caller_whose_others_are_held_up() {
  Pool pool(2);
  int together = 0;
  for (int run = 0; run < 60; ++run) {
    HeldUp job;
    pool.team(0).run(job);
    CHECK_EQUAL(job.num_tiles_run.load(), 100);
    together += job.others_came.load();
  }
  CHECK(together <= 12);
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"teams_share_the_threads", teams_share_the_threads},
                          {"teams_run_at_the_same_time", teams_run_at_the_same_time},
                          {"run_teams_of_one_caller", run_teams_of_one_caller},
                          {"run_teams_meets_itself", run_teams_meets_itself},
                          {"run_teams_errors", run_teams_errors},
                          {"mixed_callers_of_teams", mixed_callers_of_teams},
                          {"two_pools_at_once", two_pools_at_once},
                          {"short_runs_are_left_to_a_caller_whose_others_are_held_up",
                           short_runs_are_left_to_a_caller_whose_others_are_held_up}});
}
