// What a team of threads runs: phases of independent tiles.
#pragma once

#include <stdint.h>

namespace weft {

// `Team::run(job)` equals
//
//   job.begin(num_threads);
//   for (phase = 0; phase < job.num_phases(); ++phase)
//     for (tile = 0; tile < job.num_tiles(phase); ++tile)
//       job.run_tile(phase, tile, thread);
//
// Tiles of one phase run in any order and on any thread, each exactly once; a phase starts when every
// tile of the one before is done, and sees its writes. `thread` is the index in the team, and only one
// tile runs under an index at a time, so per-thread scratch needs no lock.
//
// `begin`, `num_phases` and `num_tiles` are called on the caller's thread only, for all phases before the
// first tile runs: a phase can then begin though the caller sleeps. An error they throw ends the run.
class Job {
 public:
  virtual ~Job() = default;
  // Every `thread` of this run is below `num_threads`; a resize cannot change it before the run is over.
  virtual void begin(int num_threads) { (void)num_threads; }
  virtual int64_t num_phases() const = 0;
  // At most kMaxTiles.
  virtual int64_t num_tiles(int64_t phase) const = 0;
  // Whether its phases take microseconds: where waiting for others may cost more than they bring.
  virtual bool is_short() const { return false; }
  // May throw; the first error is rethrown by Team::run and the tiles not yet begun are skipped.
  virtual void run_tile(int64_t phase, int64_t tile, int thread) = 0;

  static constexpr int64_t kMaxTiles = (int64_t{1} << 24) - 1;
};

}  // namespace weft
