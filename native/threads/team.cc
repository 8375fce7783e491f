#include "threads/team.h"

#include <algorithm>
#include <mutex>
#include <string>
#include <utility>

#include "base/error.h"
#include "threads/float_mode.h"
#include "threads/parallel_for.h"

namespace weft {

Team::Team(const PoolContext& context, int num_threads)
    : context_(context), num_threads_(num_threads), board_(std::make_unique<PhaseBoard>(num_threads)) {}

void Team::resize(int num_threads) {
  board_ = std::make_unique<PhaseBoard>(num_threads, board_->current().epoch());
  num_threads_.store(num_threads, std::memory_order_relaxed);
  caller_counters_.reset();
}

void Team::run(Job& job) {
  context_.check_usable();
  std::lock_guard<FifoLock> guard(lock_);
  context_.check_open();
  if (!prepare(job)) return;
  if (num_threads() == 1 || (phases_.size() == 1 && phases_[0].tiles == 1)) return run_alone();
  if (!job.is_short()) return run_together();
  if (solo_.take_alone()) return run_alone();
  int64_t tiles = 0;
  for (const Phase& phase : phases_) tiles += phase.tiles;
  const int64_t before = caller_counters_.num_tiles.load(std::memory_order_relaxed);
  run_together();
  solo_.observe(tiles, tiles - (caller_counters_.num_tiles.load(std::memory_order_relaxed) - before));
}

void Team::run_together() {
  start();
  work_until_end(0, caller_counters_);
  if (const std::exception_ptr error = end()) std::rethrow_exception(error);
}

void Team::parallel_for(int64_t begin, int64_t end, int64_t grain,
                        const std::function<void(int64_t, int64_t)>& body) {
  ParallelFor job(begin, end, grain, body);
  run(job);
}

bool Team::prepare(Job& job) {
  job.begin(num_threads());
  phases_.clear();
  const int64_t num_phases = job.num_phases();
  for (int64_t index = 0; index < num_phases; ++index) {
    const int64_t tiles = job.num_tiles(index);
    if (tiles < 0 || tiles > Job::kMaxTiles)
      throw Error(ErrorKind::kPlan, "expected 0 to " + std::to_string(Job::kMaxTiles) + " tiles in phase " +
                                        std::to_string(index) + ", got " + std::to_string(tiles) +
                                        "; make the tiles larger");
    if (tiles > 0) phases_.push_back({index, tiles});
  }
  job_ = &job;
  caller_tile_ = InsideTile::current();
  error_ = nullptr;
  failed_.store(false, std::memory_order_relaxed);
  first_epoch_ = board_->start_run();
  return !phases_.empty();
}

void Team::run_alone() {
  const DefaultFloatMode mode;
  const InsideTile scope(context_, InsideTile::current());
  const int64_t start = now_ticks();
  for (const Phase& phase : phases_) {
    for (int64_t tile = 0; tile < phase.tiles; ++tile) job_->run_tile(phase.index, tile, 0);
    ThreadCounters::add(caller_counters_.num_tiles, phase.tiles);
  }
  ThreadCounters::add(caller_counters_.busy_ticks, now_ticks() - start);
}

void Team::start() {
  int64_t most_tiles = 0;
  for (const Phase& phase : phases_) most_tiles = std::max(most_tiles, phase.tiles);
  board_->publish(PhaseWord::make(first_epoch_, phases_[0].tiles));
  const int parked = idle_lot_.num_parked();
  if (parked == 0) return;
  const int64_t cores = context_.num_cores.load(std::memory_order_relaxed);
  const int64_t useful = std::min({most_tiles, cores, int64_t{num_threads()}});
  idle_lot_.wake(static_cast<int>(useful) - (num_threads() - parked));
}

std::exception_ptr Team::end() {
  job_ = nullptr;
  return std::exchange(error_, nullptr);
}

void Team::open_seat() {
  const uint64_t last_epoch = (first_epoch_ + phases_.size() - 1) & PhaseWord::kEpochMask;
  seat_.store((last_epoch << 1) | 1, std::memory_order_seq_cst);
  leader_lot_.wake(1);
}

void Team::work_in_seat(ThreadCounters& counters) {
  uint64_t seat = seat_.load(std::memory_order_seq_cst);
  if ((seat & 1) != 0 && seat_.compare_exchange_strong(seat, seat & ~uint64_t{1}))
    work_until_end(0, counters, seat >> 1);
}

void Team::work_until_end(int thread, ThreadCounters& counters, std::optional<uint64_t> last_epoch) {
  const DefaultFloatMode mode;
  const WaitPolicy policy = context_.in_run();
  int64_t start = now_ticks();
  for (;;) {
    const PhaseWord phase = board_->current();
    if (phase.tiles() == 0) return;
    if (last_epoch && PhaseBoard::epochs_between(phase.epoch(), *last_epoch) < 0) return;
    const int64_t done = work_on(phase, thread, counters);
    const int64_t finished = now_ticks();
    if (done > 0 && board_->finish(done)) {
      advance(phase.epoch());
      ThreadCounters::add(counters.busy_ticks, finished - start);
      start = finished;
      continue;
    }
    ThreadCounters::add(counters.busy_ticks, finished - start);
    const bool slept = wait_a_while([&] { return board_->current() != phase; }, run_lot_, policy);
    start = now_ticks();
    ThreadCounters::add(counters.wait_ticks, start - finished);
    if (slept) ThreadCounters::add(counters.num_parks, 1);
  }
}

void Team::wait_for_end(ThreadCounters& counters) {
  const int64_t start = now_ticks();
  int64_t parks = 0;
  while (has_run()) parks += wait_a_while([&] { return !has_run(); }, run_lot_, context_.in_run());
  ThreadCounters::add(counters.wait_ticks, now_ticks() - start);
  ThreadCounters::add(counters.num_parks, parks);
}

int64_t Team::work_on(PhaseWord phase, int thread, ThreadCounters& counters) {
  const int num_ranges = board_->num_ranges();
  int64_t done = 0, own = 0;
  for (int i = 0; i < num_ranges; ++i) {
    const int range = thread + i < num_ranges ? thread + i : thread + i - num_ranges;
    const PhaseBoard::Bounds bounds = board_->bounds(range, phase);
    for (;;) {
      const int64_t limit = failed_.load(std::memory_order_relaxed) ? Job::kMaxTiles : 1;
      int64_t first;
      const int64_t count = board_->claim(range, bounds, phase, limit, &first);
      if (count == 0) break;
      run_tiles(phase, first, count, thread);
      done += count;
    }
    if (i == 0) own = done;
  }
  ThreadCounters::add(counters.num_tiles, done);
  if (done > own) ThreadCounters::add(counters.num_steals, done - own);
  return done;
}

void Team::run_tiles(PhaseWord phase, int64_t first, int64_t count, int thread) {
  const int64_t position = PhaseBoard::epochs_between(first_epoch_, phase.epoch());
  const int64_t index = phases_[static_cast<size_t>(position)].index;
  const InsideTile scope(context_, caller_tile_);
  for (int64_t tile = first; tile < first + count; ++tile) {
    if (failed_.load(std::memory_order_relaxed)) return;
    try {
      job_->run_tile(index, tile, thread);
    } catch (...) {
      if (!failed_.exchange(true, std::memory_order_acq_rel)) error_ = std::current_exception();
    }
  }
}

// By the thread that finished the last tile of the phase `epoch`. Once the end is published the caller may
// return and its job be gone.
void Team::advance(uint64_t epoch) {
  const size_t next = static_cast<size_t>(PhaseBoard::epochs_between(first_epoch_, epoch)) + 1;
  if (next < phases_.size() && !failed_.load(std::memory_order_relaxed)) {
    const int64_t tiles = phases_[next].tiles;
    board_->publish(PhaseWord::make((epoch + 1) & PhaseWord::kEpochMask, tiles));
    wake_for_phase(tiles);
  } else {
    board_->publish(PhaseWord::make((first_epoch_ + phases_.size()) & PhaseWord::kEpochMask, 0));
    run_lot_.wake_all();
  }
}

// Sleepers are only needed while there are fewer runners than tiles and cores.
void Team::wake_for_phase(int64_t tiles) {
  const int parked = run_lot_.num_parked();
  if (parked == 0) return;
  const int64_t cores = context_.num_cores.load(std::memory_order_relaxed);
  const int64_t useful = std::min({tiles, cores, int64_t{num_threads()}});
  run_lot_.wake(static_cast<int>(useful) - (num_threads() - parked - idle_lot_.num_parked()));
}

}  // namespace weft
