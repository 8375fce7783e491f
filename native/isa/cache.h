// Sizes of the processor's data caches.
#pragma once

#include <stdint.h>

namespace weft {

// In bytes, of the first processor; 0 where the system does not tell. l3_bytes is shared by several cores.
struct CacheSizes {
  int64_t l1d_bytes = 0;
  int64_t l2_bytes = 0;
  int64_t l3_bytes = 0;
};

// Read at the first call. Any thread.
const CacheSizes& cache_sizes();

}  // namespace weft
