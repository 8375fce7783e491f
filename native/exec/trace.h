// Spans of time that each thread spent in each operation of a run.
#pragma once

#include <stdint.h>

#include <mutex>
#include <vector>

namespace weft {

struct Span {
  int32_t thread;   // index in the team
  int32_t node;     // index in the plan; of the first node, for a chain of row-wise ones
  int32_t phase;    // phase of the operation
  int32_t tiles;    // how many tiles ran in this span
  int64_t begin_ns;  // steady clock
  int64_t end_ns;
};

// Collects the spans of any number of runs, one list a thread, so that recording takes no lock.
// Consecutive tiles of one phase on one thread make one span. Whoever uses it, a run or a reader, holds its turn().
class Trace {
 public:
  // Spans past `capacity` (of each thread) are counted and dropped.
  explicit Trace(int64_t capacity) : capacity_(capacity) {}

  void prepare(int num_threads) {
    if (static_cast<int>(lanes_.size()) < num_threads) lanes_.resize(num_threads);
    for (Lane& lane : lanes_) lane.open = false;
  }
  void record(int thread, int32_t node, int32_t phase, int64_t begin_ns, int64_t end_ns);
  std::vector<Span> spans() const;
  int64_t num_dropped() const;
  void clear();
  std::mutex& turn() { return turn_; }

 private:
  struct alignas(64) Lane {
    std::vector<Span> spans;
    int64_t num_dropped = 0;
    bool open = false;  // the last span may still be extended
  };
  int64_t capacity_;
  std::vector<Lane> lanes_;
  std::mutex turn_;
};

int64_t steady_now_ns();

}  // namespace weft
