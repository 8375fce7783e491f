// Jobs that tests of the pool run: one that counts its tiles, one that throws.
#pragma once

#include <atomic>
#include <cstdint>
#include <stdexcept>

#include "tests/native/check.h"
#include "threads/pool.h"

namespace weft::test {

class Counting final : public Job {
 public:
  Counting(int64_t phases, int64_t tiles) : phases_(phases), tiles_(tiles) {}
  int64_t num_phases() const override { return phases_; }
  int64_t num_tiles(int64_t) const override { return tiles_; }
  void run_tile(int64_t, int64_t, int) override { num_run.fetch_add(1, std::memory_order_relaxed); }
  void check_done(int64_t times = 1) const { CHECK_EQUAL(num_run.load(), times * phases_ * tiles_); }
  std::atomic<int64_t> num_run{0};

 private:
  const int64_t phases_, tiles_;
};

class Failing final : public Job {
 public:
  explicit Failing(const char* message) : message_(message) {}
  int64_t num_phases() const override { return 2; }
  int64_t num_tiles(int64_t) const override { return 4; }
  void run_tile(int64_t, int64_t, int) override { throw std::runtime_error(message_); }

 private:
  const char* message_;
};

}  // namespace weft::test
