// A loop on all threads of a pool, whatever its teams.
#pragma once

#include <stdint.h>

#include <functional>

#include "threads/pool.h"

namespace weft {

// Equals  for (i = 0; i < count; ++i) body(i, thread);  in any order, `thread` counted over all teams: under an index
// one call runs at a time. begin(num_threads), the last of its calls with all of them, comes before, and may throw.
// Throws as Pool::run_teams does.
void run_on_all(Pool& pool, int64_t count, const std::function<void(int64_t, int)>& body,
                const std::function<void(int)>& begin = nullptr);

}  // namespace weft
