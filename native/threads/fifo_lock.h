// A mutex that serves its callers in the order of their arrival.
#pragma once

#include <stdint.h>

#include <atomic>

#include "threads/parking.h"

namespace weft {

// A ticket lock whose waiters sleep. Fairness matters where one caller locks again at once, in a loop: with
// std::mutex the others may starve.
class FifoLock {
 public:
  void lock() {
    const uint32_t ticket = next_.fetch_add(1, std::memory_order_seq_cst);
    for (;;) {
      const uint32_t serving = serving_.load(std::memory_order_seq_cst);
      if (serving == ticket) return;
      wait_on_word(serving_, serving);
    }
  }

  // Wakes all sleepers, as only one of them has the next ticket; queues are short (callers of one team).
  void unlock() {
    const uint32_t next = serving_.load(std::memory_order_relaxed) + 1;
    serving_.store(next, std::memory_order_seq_cst);
    if (next_.load(std::memory_order_seq_cst) != next) wake_on_word(serving_, INT32_MAX);
  }

 private:
  std::atomic<uint32_t> next_{0};
  std::atomic<uint32_t> serving_{0};
};

}  // namespace weft
