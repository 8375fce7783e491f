// How much memory this process may still ask for.
#pragma once

#include <stdint.h>

namespace weft {

// The smaller of what the system says is available and what the control group (version 2) has left; INT64_MAX
// where neither can be read. Any thread.
int64_t available_bytes();

}  // namespace weft
