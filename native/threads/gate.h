// A door that the threads of a run wait at for work that goes on beside it.
#pragma once

#include <stdint.h>

#include <atomic>

#include "threads/parking.h"

namespace weft {

// Open while nothing is pending. Whoever begins a piece of work calls begin() before the run that needs it, and
// end() once, when what the work wrote may be read. Any thread may call any function.
class Gate {
 public:
  void begin() { pending_.fetch_add(1, std::memory_order_seq_cst); }

  void end() {
    if (pending_.fetch_sub(1, std::memory_order_seq_cst) == 1) lot_.wake_all();
  }

  bool is_open() const { return pending_.load(std::memory_order_seq_cst) == 0; }

  // Returns when nothing is pending: spins briefly, then sleeps.
  void wait() {
    constexpr WaitPolicy kPolicy = {20'000, 0};
    while (!is_open()) wait_a_while([this] { return is_open(); }, lot_, kPolicy);
  }

 private:
  std::atomic<int64_t> pending_{0};
  ParkingLot lot_;
};

}  // namespace weft
