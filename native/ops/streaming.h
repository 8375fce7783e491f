// Which outputs are written past the caches.
#pragma once

#include <stdint.h>

#include "base/types.h"

namespace weft {

// An output larger than this has left the caches before it is read.
constexpr int64_t kStreamedBytes = int64_t{6} << 20;

// Whether the columns of `out`, float32, from `first` on are written past the caches.
inline bool is_streamed(const Matrix& out, int64_t first) {
  const bool is_aligned = reinterpret_cast<uintptr_t>(out.f32_row(0) + first) % 64 == 0;
  return is_aligned && out.row_stride % 16 == 0 && out.rows * out.row_stride * int64_t{sizeof(float)} > kStreamedBytes;
}

}  // namespace weft
