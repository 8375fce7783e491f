#include "exec/trace.h"

#include <chrono>

namespace weft {

int64_t steady_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

void Trace::record(int thread, int32_t node, int32_t phase, int64_t begin_ns, int64_t end_ns) {
  Lane& lane = lanes_[thread];
  if (lane.open && lane.spans.back().node == node && lane.spans.back().phase == phase) {
    lane.spans.back().end_ns = end_ns;
    lane.spans.back().tiles += 1;
    return;
  }
  if (static_cast<int64_t>(lane.spans.size()) >= capacity_) {
    lane.num_dropped += 1;
    lane.open = false;
    return;
  }
  lane.spans.push_back({thread, node, phase, 1, begin_ns, end_ns});
  lane.open = true;
}

std::vector<Span> Trace::spans() const {
  std::vector<Span> all;
  for (const Lane& lane : lanes_) all.insert(all.end(), lane.spans.begin(), lane.spans.end());
  return all;
}

int64_t Trace::num_dropped() const {
  int64_t total = 0;
  for (const Lane& lane : lanes_) total += lane.num_dropped;
  return total;
}

void Trace::clear() { lanes_.clear(); }

}  // namespace weft
