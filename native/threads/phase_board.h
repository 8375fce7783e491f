// Where the threads of a team find the tiles of the phase that runs, and claim them without locks.
#pragma once

#include <stdint.h>

#include <atomic>
#include <memory>

#include "threads/job.h"

namespace weft {

// A phase as one word: which one (epoch), and how many tiles it has. No tiles: nothing runs.
struct PhaseWord {
  uint64_t bits = 0;

  static constexpr int kTileBits = 24;
  static constexpr uint64_t kTileMask = (uint64_t{1} << kTileBits) - 1;
  static constexpr uint64_t kEpochMask = ~uint64_t{0} >> kTileBits;

  static PhaseWord make(uint64_t epoch, int64_t tiles) {
    return {(epoch << kTileBits) | static_cast<uint64_t>(tiles)};
  }
  uint64_t epoch() const { return bits >> kTileBits; }
  int64_t tiles() const { return static_cast<int64_t>(bits & kTileMask); }
  bool operator==(const PhaseWord&) const = default;
};

// The phases of a team, one after the other, numbered by an epoch that never goes back.
//
// The tiles of a phase are split in one contiguous range for each thread. A range is one word (epoch, next
// tile). Ranges are not written when a phase begins: one that still carries an older epoch counts as
// untouched, and the first claim from it writes the new epoch. A claim is a compare-and-swap from a word
// whose epoch is not newer than the phase's to one with more tiles taken. So a claim with an outdated view
// fails: that phase was complete, hence all its non-empty ranges were touched, and their words only move
// forward. A thread may sleep anywhere between two calls here and delays the others only if it holds a tile.
//
// The epoch has 40 bits: it wraps after 12 days of one phase each microsecond. Ages are therefore compared
// modulo 2^40, and start_run() refreshes the ranges long before one can look 2^39 epochs old.
class PhaseBoard {
 public:
  explicit PhaseBoard(int num_ranges, uint64_t first_epoch = 0)
      : num_ranges_(num_ranges),
        current_(PhaseWord::make(first_epoch & PhaseWord::kEpochMask, 0).bits),
        refreshed_(first_epoch),
        ranges_(new Range[static_cast<size_t>(num_ranges)]) {
    refresh_ranges(first_epoch);
  }

  int num_ranges() const { return num_ranges_; }

  PhaseWord current() const { return {current_.load(std::memory_order_seq_cst)}; }

  // Between runs, by the thread that owns the run: returns the epoch of the run's first phase.
  uint64_t start_run() {
    const uint64_t epoch = current().epoch();
    constexpr uint64_t kRefreshEpochs = uint64_t{1} << 36;
    if (((epoch - refreshed_) & PhaseWord::kEpochMask) > kRefreshEpochs) refresh_ranges(epoch);
    return (epoch + 1) & PhaseWord::kEpochMask;
  }

  // Makes a phase current. Only when no claim of the phase before is held: by the thread that owns the run,
  // or the one that finish() told it was the last. Publishes all its writes to the claimers.
  void publish(PhaseWord phase) {
    remaining_.store(phase.tiles(), std::memory_order_relaxed);
    current_.store(phase.bits, std::memory_order_seq_cst);
  }

  // The tiles [begin, end) of a phase that `range` is made of.
  struct Bounds {
    int64_t begin, end;
  };
  Bounds bounds(int range, PhaseWord phase) const {
    return {first_tile_of(range, phase.tiles()), first_tile_of(range + 1, phase.tiles())};
  }

  // Claims up to `limit` tiles of `phase` from `range`; returns their number, 0 when that range has no more
  // or the phase is over. While a claim is held the phase stays current and its job alive.
  int64_t claim(int range, Bounds tiles, PhaseWord phase, int64_t limit, int64_t* first_tile) {
    if (tiles.begin == tiles.end) return 0;
    std::atomic<uint64_t>& word = ranges_[static_cast<size_t>(range)].word;
    uint64_t seen = word.load(std::memory_order_relaxed);
    for (;;) {
      const int64_t age = epochs_between(PhaseWord{seen}.epoch(), phase.epoch());
      if (age < 0) return 0;
      const int64_t next = age == 0 ? PhaseWord{seen}.tiles() : tiles.begin;
      if (next >= tiles.end) return 0;
      const int64_t count = limit < tiles.end - next ? limit : tiles.end - next;
      const uint64_t taken = PhaseWord::make(phase.epoch(), next + count).bits;
      if (word.compare_exchange_weak(seen, taken, std::memory_order_acq_rel, std::memory_order_relaxed)) {
        *first_tile = next;
        return count;
      }
    }
  }

  // Gives back `count` claims whose tiles are done. True for the last of the phase: this thread then sees
  // the writes of all others and must publish() what comes next.
  bool finish(int64_t count) {
    return remaining_.fetch_sub(count, std::memory_order_acq_rel) == count;
  }

  // Signed distance from epoch `from` to epoch `to`, modulo 2^40.
  static int64_t epochs_between(uint64_t from, uint64_t to) {
    return static_cast<int64_t>((to - from) << PhaseWord::kTileBits) >> PhaseWord::kTileBits;
  }

 private:
  // Two cache lines, as processors fetch them in pairs.
  struct alignas(128) Range {
    std::atomic<uint64_t> word{0};
  };

  // Rounded up, so that a phase of few tiles gives them to the first threads.
  int64_t first_tile_of(int range, int64_t tiles) const {
    return (range * tiles + num_ranges_ - 1) / num_ranges_;
  }

  void refresh_ranges(uint64_t epoch) {
    for (int i = 0; i < num_ranges_; ++i)
      ranges_[static_cast<size_t>(i)].word.store(PhaseWord::make(epoch & PhaseWord::kEpochMask, 0).bits,
                                                 std::memory_order_seq_cst);
    refreshed_ = epoch;
  }

  const int num_ranges_;
  alignas(128) std::atomic<uint64_t> current_;
  alignas(128) std::atomic<int64_t> remaining_{0};
  alignas(128) uint64_t refreshed_;
  std::unique_ptr<Range[]> ranges_;
};

}  // namespace weft
