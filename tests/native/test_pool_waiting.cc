// How threads wait: no wake is lost by sleepers, and the lock of a team serves its callers in order.
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/native/check.h"
#include "threads/fifo_lock.h"
#include "threads/parking.h"
#include "threads/solo.h"

namespace {

using weft::FifoLock;
using weft::ParkingLot;
using weft::SoloPolicy;
using weft::WaitPolicy;

// Two threads hand a number to and fro. With no spinning nearly every turn races a wake against a sleeper
// about to sleep; a lost one would hang.
void no_wake_is_lost(const WaitPolicy& policy) {
  constexpr int64_t kTurns = 30000;
  std::atomic<int64_t> turn{0};
  ParkingLot lots[2];
  const auto play = [&](int64_t player) {
    for (int64_t mine = player; mine < kTurns; mine += 2) {
      const auto ready = [&] { return turn.load(std::memory_order_seq_cst) == mine; };
      while (!ready()) weft::wait_a_while(ready, lots[player], policy);
      turn.store(mine + 1, std::memory_order_seq_cst);
      lots[1 - player].wake(1);
    }
  };
  std::thread other([&] { play(1); });
  play(0);
  other.join();
  CHECK_EQUAL(turn.load(), kTurns);
  CHECK_EQUAL(lots[0].num_parked() + lots[1].num_parked(), 0);
}

void no_wake_is_lost_by_sleepers() { no_wake_is_lost({0, 0}); }
void no_wake_is_lost_by_spinners() { no_wake_is_lost({500, 0}); }
void no_wake_is_lost_by_yielders() { no_wake_is_lost({0, 2000}); }

void wake_counts_sleepers() {
  ParkingLot lot;
  CHECK(!lot.wake(1));
  std::atomic<bool> ready{false};
  std::thread sleeper([&] {
    while (!ready.load()) lot.park([&] { return ready.load(); });
  });
  while (lot.num_parked() == 0) std::this_thread::yield();
  CHECK(!lot.wake(0));
  ready = true;
  lot.wake_all();
  sleeper.join();
  CHECK_EQUAL(lot.num_parked(), 0);
}

void lock_excludes() {
  FifoLock lock;
  int64_t count = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 5000; ++turn) {
        const std::lock_guard<FifoLock> guard(lock);
        ++count;
      }
    });
  for (auto& thread : threads) thread.join();
  CHECK_EQUAL(count, 20000);
}

// Two callers that lock again at once take turns; with an unfair lock one of them starves.
void lock_is_fair() {
  FifoLock lock;
  int64_t turns[2] = {0, 0};  // guarded by the lock
  const auto use = [&](int caller) {
    for (bool over = false; !over;) {
      const std::lock_guard<FifoLock> guard(lock);
      ++turns[caller];
      usleep(100);  // the other has time to come and wait
      over = turns[0] + turns[1] >= 400;
    }
  };
  std::thread other([&] { use(1); });
  use(0);
  other.join();
  CHECK(turns[0] > 150 && turns[1] > 150);
}

// How many of `count` short runs the caller takes alone, when the others do `others` of 100 tiles.
int runs_alone(SoloPolicy& policy, int count, int64_t others) {
  int alone = 0;
  for (int run = 0; run < count; ++run) {
    if (policy.take_alone()) {
      ++alone;
    } else {
      policy.observe(100, others);
    }
  }
  return alone;
}

void short_runs_are_taken_alone_where_others_bring_little() {
  SoloPolicy policy;
  CHECK_EQUAL(runs_alone(policy, 1000, 45), 0);
  CHECK_EQUAL(runs_alone(policy, 3, 0), 0);
  CHECK_EQUAL(runs_alone(policy, 1000, 45), 0);  // a few runs alone say nothing
  const int alone = runs_alone(policy, 1000, 10);
  CHECK(alone > 900 && alone < 980);  // and again and again it is tried what they bring
  CHECK(runs_alone(policy, 1000, 45) <= 64);
}

}  // namespace

int main(int argc, char** argv) {
  alarm(240);  // a lost wake ends the test instead of hanging it
  return weft::test::run(argc, argv,
                         {{"no_wake_is_lost_by_sleepers", no_wake_is_lost_by_sleepers},
                          {"no_wake_is_lost_by_spinners", no_wake_is_lost_by_spinners},
                          {"no_wake_is_lost_by_yielders", no_wake_is_lost_by_yielders},
                          {"wake_counts_sleepers", wake_counts_sleepers},
                          {"lock_excludes", lock_excludes},
                          {"lock_is_fair", lock_is_fair},
                          {"short_runs_are_taken_alone_where_others_bring_little",
                           short_runs_are_taken_alone_where_others_bring_little}});
}
