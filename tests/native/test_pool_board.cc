// PhaseBoard by itself: claims with outdated views, the wrap of its epochs, and a race of many claimers.
#include "threads/phase_board.h"

#include <atomic>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#include "tests/native/check.h"

namespace {

using weft::PhaseBoard;
using weft::PhaseWord;

constexpr uint64_t kLastEpoch = PhaseWord::kEpochMask;

// Claims one tile of `range`; -1: none.
int64_t claim_one(PhaseBoard& board, int range, PhaseWord phase) {
  int64_t tile = -1;
  return board.claim(range, board.bounds(range, phase), phase, 1, &tile) == 1 ? tile : -1;
}

void ranges_cover_all_tiles() {
  for (const int ranges : {1, 2, 3, 8, 1000}) {
    PhaseBoard board(ranges);
    for (const int64_t tiles : {int64_t{0}, int64_t{1}, int64_t{2}, int64_t{7}, int64_t{8}, int64_t{1001},
                                weft::Job::kMaxTiles}) {
      int64_t end = 0;
      for (int range = 0; range < ranges; ++range) {
        const PhaseBoard::Bounds bounds = board.bounds(range, PhaseWord::make(1, tiles));
        CHECK_EQUAL(bounds.begin, end);
        CHECK(bounds.end >= bounds.begin && bounds.end - bounds.begin <= tiles / ranges + 1);
        end = bounds.end;
      }
      CHECK_EQUAL(end, tiles);
    }
  }
}

void tiles_come_in_order_and_once() {
  PhaseBoard board(2);
  const PhaseWord phase = PhaseWord::make(board.start_run(), 5);
  board.publish(phase);
  CHECK_EQUAL(claim_one(board, 0, phase), 0);
  CHECK_EQUAL(claim_one(board, 1, phase), 3);
  CHECK_EQUAL(claim_one(board, 0, phase), 1);
  int64_t first;
  CHECK_EQUAL(board.claim(1, board.bounds(1, phase), phase, 100, &first), 1);
  CHECK_EQUAL(first, 4);
  CHECK_EQUAL(claim_one(board, 1, phase), -1);
  CHECK_EQUAL(claim_one(board, 0, phase), 2);
  CHECK_EQUAL(claim_one(board, 0, phase), -1);
  CHECK(!board.finish(4));
  CHECK(board.finish(1));
}

// A thread that slept since an earlier phase claims nothing of a later one, from touched and untouched ranges.
void outdated_views_claim_nothing() {
  PhaseBoard board(2);
  const uint64_t epoch = board.start_run();
  const PhaseWord old_phase = PhaseWord::make(epoch, 9), phase = PhaseWord::make(epoch + 1, 3);
  board.publish(old_phase);
  int64_t first;
  for (const int range : {0, 1}) {
    const int64_t count = board.claim(range, board.bounds(range, old_phase), old_phase, 100, &first);
    board.finish(count);
  }
  board.publish(phase);
  CHECK_EQUAL(claim_one(board, 0, old_phase), -1);
  CHECK_EQUAL(claim_one(board, 0, phase), 0);
  CHECK_EQUAL(claim_one(board, 0, old_phase), -1);
  CHECK_EQUAL(claim_one(board, 1, old_phase), -1);
  CHECK_EQUAL(claim_one(board, 1, phase), 2);
}

void epochs_wrap() {
  CHECK_EQUAL(PhaseBoard::epochs_between(kLastEpoch, 0), 1);
  CHECK_EQUAL(PhaseBoard::epochs_between(0, kLastEpoch), -1);
  CHECK_EQUAL(PhaseBoard::epochs_between(5, 5), 0);
  PhaseBoard board(3, kLastEpoch - 4);
  for (int run = 0; run < 10; ++run) {
    const uint64_t epoch = board.start_run();
    const PhaseWord phase = PhaseWord::make(epoch, 4);
    board.publish(phase);
    int64_t total = 0, first;
    for (int range = 0; range < 3; ++range)
      total += board.claim(range, board.bounds(range, phase), phase, 100, &first);
    CHECK_EQUAL(total, 4);
    CHECK(board.finish(total));
    board.publish(PhaseWord::make((epoch + 1) & PhaseWord::kEpochMask, 0));
  }
  CHECK(board.current().epoch() < 20);
}

// A range that no phase touched for 2^39 epochs would look as if it came from the future.
void untouched_ranges_are_refreshed() {
  PhaseBoard board(2);
  uint64_t epoch = 0;
  for (int jump = 0; jump < 20; ++jump) {
    epoch = (epoch + (uint64_t{1} << 35)) & PhaseWord::kEpochMask;
    board.publish(PhaseWord::make(epoch, 0));
    epoch = board.start_run();
  }
  const PhaseWord phase = PhaseWord::make(epoch, 2);
  board.publish(phase);
  CHECK_EQUAL(claim_one(board, 0, phase), 0);
  CHECK_EQUAL(claim_one(board, 1, phase), 1);
}

void many_claimers() {
  constexpr int kThreads = 4;
  constexpr int64_t kPhases = 3000;
  PhaseBoard board(kThreads);
  std::atomic<int64_t> claimed{0}, expected{0};
  std::barrier start(kThreads);
  const uint64_t first_epoch = board.start_run();
  const auto tiles_of = [&](uint64_t epoch) { return static_cast<int64_t>(1 + epoch * 5 % 13); };
  board.publish(PhaseWord::make(first_epoch, tiles_of(first_epoch)));
  const auto work = [&](int thread) {
    start.arrive_and_wait();
    for (;;) {
      const PhaseWord phase = board.current();
      if (phase.tiles() == 0) return;
      int64_t done = 0;
      for (int i = 0; i < kThreads; ++i)
        while (claim_one(board, (thread + i) % kThreads, phase) >= 0) ++done;
      claimed.fetch_add(done);
      if (done > 0 && board.finish(done)) {
        expected.fetch_add(phase.tiles());
        const uint64_t next = phase.epoch() + 1;
        const bool over = next == first_epoch + kPhases;
        board.publish(PhaseWord::make(next, over ? 0 : tiles_of(next)));
      }
      while (board.current() == phase) std::this_thread::yield();
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(work, thread);
  for (auto& thread : threads) thread.join();
  CHECK_EQUAL(claimed.load(), expected.load());
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"ranges_cover_all_tiles", ranges_cover_all_tiles},
                          {"tiles_come_in_order_and_once", tiles_come_in_order_and_once},
                          {"outdated_views_claim_nothing", outdated_views_claim_nothing},
                          {"epochs_wrap", epochs_wrap},
                          {"untouched_ranges_are_refreshed", untouched_ranges_are_refreshed},
                          {"many_claimers", many_claimers}});
}
