// What the pool needs to know of its process and machine.
#pragma once

#include <stdint.h>

namespace weft {

// The number of times that this process's line of ancestors forked since the library was loaded: differs
// from an earlier value exactly in a child of the process that read it. Costs one load.
uint64_t fork_generation();

// Processors that this process may run on: the affinity mask, without regard to a quota. At least 1.
int affinity_cores();

// Blocks the signals of this thread that are no faults of its own, for the life of the object. Threads
// started under it never run such a handler: the interpreter's main thread gets Ctrl-C.
class BlockSignals {
 public:
  BlockSignals();
  ~BlockSignals();
  BlockSignals(const BlockSignals&) = delete;
  BlockSignals& operator=(const BlockSignals&) = delete;

 private:
  alignas(16) unsigned char before_[128];
};

// Names the calling thread in debuggers and profiles, as "weft-<team>.<thread>".
void name_this_thread(int team, int thread);

// Keeps the calling thread on one core of those it may use, the index-th, for the life of the object. For
// measurements: work that shares its cores with others is faster where the system may move it.
class OnOneCore {
 public:
  explicit OnOneCore(int index);
  ~OnOneCore();
  OnOneCore(const OnOneCore&) = delete;
  OnOneCore& operator=(const OnOneCore&) = delete;

 private:
  alignas(8) unsigned char before_[128];  // a cpu_set_t
  bool is_kept_ = false;
};

}  // namespace weft
