#include "threads/pool_context.h"

#include <stdlib.h>

#include <string>

#include "base/error.h"

namespace weft {
namespace {

// Between runs: long enough for the Python between two steps of generation; waking a sleeper costs about
// as much as this spin, which therefore at most doubles what an ideal choice would have cost.
constexpr int64_t kDefaultSpinUs = 200;
constexpr int64_t kMaxSpinUs = 1'000'000;
// Within a run: a tile is some 10 us, so a longer wait means a thread that lost its processor.
constexpr int64_t kInRunPauseNs = 20'000;
constexpr int64_t kInRunYieldNs = 100'000;
// Between runs, before the first yield.
constexpr int64_t kIdlePauseNs = 50'000;

thread_local const InsideTile* innermost_tile = nullptr;

int64_t spin_us_of_environment() {
  const char* text = getenv("WEFT_SPIN_US");
  if (text == nullptr || text[0] == '\0') return PoolContext::kDefaultSpin;
  char* end = nullptr;
  const long long value = strtoll(text, &end, 10);
  if (*end != '\0' || value < 0 || value > kMaxSpinUs)
    throw Error(ErrorKind::kValue, "expected WEFT_SPIN_US between 0 and " + std::to_string(kMaxSpinUs) +
                                       " microseconds, got '" + text + "'; unset it for the default");
  return value;
}

}  // namespace

PoolContext::PoolContext(int num_threads, int64_t asked_spin_us)
    : fork_generation(weft::fork_generation()),
      spin_us(asked_spin_us == kDefaultSpin ? spin_us_of_environment() : asked_spin_us) {
  if (spin_us < kDefaultSpin || spin_us > kMaxSpinUs)
    throw Error(ErrorKind::kValue, "expected spin_us between 0 and " + std::to_string(kMaxSpinUs) + ", got " +
                                       std::to_string(spin_us) + "; leave it out for the default");
  set_threads(num_threads);
}

void PoolContext::set_threads(int num_threads) {
  num_cores.store(affinity_cores(), std::memory_order_relaxed);
  oversubscribed_.store(num_threads > num_cores.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

WaitPolicy PoolContext::in_run() const {
  if (oversubscribed_.load(std::memory_order_relaxed)) return {0, kInRunYieldNs};
  return {kInRunPauseNs, kInRunYieldNs};
}

WaitPolicy PoolContext::idle() const {
  int64_t total_us = spin_us.load(std::memory_order_relaxed);
  if (total_us == kDefaultSpin)
    total_us = oversubscribed_.load(std::memory_order_relaxed) ? 0 : kDefaultSpinUs;
  const int64_t total_ns = total_us * 1000;
  const int64_t pause_ns = total_ns < kIdlePauseNs ? total_ns : kIdlePauseNs;
  return {pause_ns, total_ns - pause_ns};
}

void PoolContext::throw_closed() const {
  throw Error(ErrorKind::kThread, "expected an open pool, this one is closed; make a new one");
}

void PoolContext::check_open() const {
  if (closed.load(std::memory_order_acquire)) throw_closed();
}

void PoolContext::check_not_forked() const {
  if (is_forked())
    throw Error(ErrorKind::kThread,
                "expected a pool of this process, this one was made before a fork and its threads did not "
                "come along; make the pool in the child, or start processes with 'spawn'");
}

void PoolContext::check_usable() const {
  check_not_forked();
  check_open();
  if (InsideTile::of(*this))
    throw Error(ErrorKind::kThread,
                "expected a call from outside of the pool's tiles, this one came from within a tile; "
                "nested runs are refused: use a larger loop, or another pool");
}

InsideTile::InsideTile(const PoolContext& pool, const InsideTile* outer)
    : pool_(&pool), outer_(outer), before_(innermost_tile) {
  innermost_tile = this;
}

InsideTile::~InsideTile() { innermost_tile = before_; }

const InsideTile* InsideTile::current() { return innermost_tile; }

bool InsideTile::of(const PoolContext& pool) {
  for (const InsideTile* tile = innermost_tile; tile != nullptr; tile = tile->outer_)
    if (tile->pool_ == &pool) return true;
  return false;
}

}  // namespace weft
