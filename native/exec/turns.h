// Whose turn it is, of threads that run one plan.
#pragma once

#include <stdint.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "threads/process.h"

namespace weft {

// A mutex that a fork may find taken: in the child nobody is there to give it back, and lock() throws Error(kThread)
// instead of waiting for ever. Any thread may call any function.
class Turns {
 public:
  void lock() {
    if (!mutex_.try_lock()) {
      refuse_lost_turn();
      mutex_.lock();
    }
    taken_in_.store(fork_generation(), std::memory_order_relaxed);
  }
  void unlock() { mutex_.unlock(); }

 private:
  // A thread of this process that has just taken its turn says so within moments.
  void refuse_lost_turn() const {
    constexpr int kMoments = 100;
    for (int i = 0; i < kMoments; ++i) {
      if (taken_in_.load(std::memory_order_relaxed) == fork_generation()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    throw Error(ErrorKind::kThread,
                "expected a plan that nobody ran when this process was forked, a thread that did not come along was "
                "in it; compile the plan in the child, or start processes with 'spawn'");
  }

  std::mutex mutex_;
  std::atomic<uint64_t> taken_in_{fork_generation()};  // the fork generation of the last lock()
};

}  // namespace weft
