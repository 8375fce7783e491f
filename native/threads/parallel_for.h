// A counted loop as a job.
#pragma once

#include <stdint.h>

#include <algorithm>
#include <functional>
#include <string>

#include "base/error.h"
#include "threads/job.h"

namespace weft {

// Equals  for (first = begin; first < end; first += grain) body(first, min(first + grain, end));
// Each tile is one call of `body`. A loop of more than kMaxTiles calls takes several phases.
class ParallelFor final : public Job {
 public:
  ParallelFor(int64_t begin, int64_t end, int64_t grain, const std::function<void(int64_t, int64_t)>& body)
      : begin_(begin), end_(end), grain_(grain), body_(body) {
    if (grain < 1)
      throw Error(ErrorKind::kValue,
                  "expected a grain of at least 1, got " + std::to_string(grain) + "; use 1 for single items");
    const uint64_t items = end > begin ? static_cast<uint64_t>(end) - static_cast<uint64_t>(begin) : 0;
    num_calls_ = items / static_cast<uint64_t>(grain) + (items % static_cast<uint64_t>(grain) != 0);
    if (num_calls_ > uint64_t{1} << 48)
      throw Error(ErrorKind::kValue, "expected at most 2^48 calls, got " + std::to_string(num_calls_) +
                                         "; use a larger grain");
  }

  int64_t num_phases() const override {
    return static_cast<int64_t>((num_calls_ + kMaxTiles - 1) / kMaxTiles);
  }

  int64_t num_tiles(int64_t phase) const override {
    return std::min<int64_t>(kMaxTiles, static_cast<int64_t>(num_calls_) - phase * kMaxTiles);
  }

  void run_tile(int64_t phase, int64_t tile, int) override {
    const uint64_t offset = static_cast<uint64_t>(phase * kMaxTiles + tile) * static_cast<uint64_t>(grain_);
    const int64_t first = static_cast<int64_t>(static_cast<uint64_t>(begin_) + offset);
    const uint64_t left = static_cast<uint64_t>(end_) - static_cast<uint64_t>(first);
    body_(first, left > static_cast<uint64_t>(grain_) ? first + grain_ : end_);
  }

 private:
  const int64_t begin_, end_, grain_;
  const std::function<void(int64_t, int64_t)>& body_;
  uint64_t num_calls_;
};

}  // namespace weft
