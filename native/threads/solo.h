// When a team leaves its short runs to their caller.
#pragma once

#include <stdint.h>

namespace weft {

// Where other programs want the processors, the threads of a team are seldom awake at once. In a run whose phases
// take microseconds one of them then does nearly all, while the others take processor time to wait for the tile that
// it holds. So once they do less than a quarter of such runs, the caller takes the next ones alone, and then tries
// again.
//
// For one thread at a time.
class SoloPolicy {
 public:
  // Whether the next short run is for its caller alone. Counts it.
  bool take_alone() {
    if (runs_left_ == 0) return false;
    --runs_left_;
    return true;
  }

  // Takes note of a short run of the team in which the others did `others` of all `tiles`.
  void observe(int64_t tiles, int64_t others) {
    if (tiles <= 0) return;
    const double share = static_cast<double>(others) / static_cast<double>(tiles);
    others_share_ += (share - others_share_) / kRunsOfMemory;
    if (others_share_ > kLeastOfOthers) return;
    runs_left_ = kRunsAlone;
    others_share_ = kAtNewTry;
  }

 private:
  static constexpr double kRunsOfMemory = 8;
  static constexpr double kLeastOfOthers = 0.25;
  static constexpr double kAtNewTry = 0.3;  // a few runs decide
  static constexpr int kRunsAlone = 64;

  double others_share_ = 0.5;
  int runs_left_ = 0;
};

}  // namespace weft
