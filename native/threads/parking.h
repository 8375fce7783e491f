// Where threads that wait for long sleep, and how they wait before that.
#pragma once

#include <stdint.h>

#include <atomic>

#include "threads/clock.h"

namespace weft {

// Blocks while `*word == expected`, at most until a wake; may return early. Linux: a futex.
void wait_on_word(std::atomic<uint32_t>& word, uint32_t expected);
void wake_on_word(std::atomic<uint32_t>& word, int max_threads);
void yield_processor();

// Sleeping threads of one kind. The waker changes what the sleepers wait for, then calls wake(); a sleeper
// checks it again after it has been counted. Both sides use sequentially consistent operations, so either
// the waker sees the sleeper's count or the sleeper sees the change: no wake is lost.
class ParkingLot {
 public:
  // Sleeps until woken, unless `ready()` holds already; may return early. `ready` must read with seq_cst.
  template <class Ready>
  void park(const Ready& ready) {
    num_parked_.fetch_add(1, std::memory_order_seq_cst);
    const uint32_t seen = wakes_.load(std::memory_order_seq_cst);
    if (!ready()) wait_on_word(wakes_, seen);
    num_parked_.fetch_sub(1, std::memory_order_seq_cst);
  }

  int num_parked() const { return num_parked_.load(std::memory_order_seq_cst); }

  // Wakes at most `max_threads`; costs one load when nobody sleeps. Returns whether somebody slept.
  bool wake(int max_threads) {
    if (max_threads <= 0 || num_parked() == 0) return false;
    wakes_.fetch_add(1, std::memory_order_seq_cst);
    wake_on_word(wakes_, max_threads);
    return true;
  }

  void wake_all() { wake(INT32_MAX); }

 private:
  alignas(64) std::atomic<int> num_parked_{0};
  std::atomic<uint32_t> wakes_{0};
};

// How long a waiting thread keeps the processor before it sleeps.
struct WaitPolicy {
  int64_t pause_ns = 0;  // spins with the pause instruction
  int64_t yield_ns = 0;  // then offers the processor to others
};

// Waits for `ready()`: spins, yields, sleeps once. May return before it holds, after a wake for something that
// others have done meanwhile; the caller then waits anew, and so spins again, as more is likely to come.
// Returns whether it slept.
template <class Ready>
bool wait_a_while(const Ready& ready, ParkingLot& lot, const WaitPolicy& policy) {
  constexpr int kPausesPerClock = 32;
  if (ready()) return false;
  if (policy.pause_ns + policy.yield_ns > 0) {
    const int64_t start = now_ns();
    for (int64_t waited = 0; waited < policy.pause_ns; waited = now_ns() - start)
      for (int i = 0; i < kPausesPerClock; ++i) {
        if (ready()) return false;
        cpu_pause();
      }
    for (int64_t waited = 0; waited < policy.pause_ns + policy.yield_ns; waited = now_ns() - start) {
      if (ready()) return false;
      yield_processor();
    }
  }
  lot.park(ready);
  return true;
}

}  // namespace weft
