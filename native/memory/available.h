// How much memory this process may still ask for, and giving back what it has freed.
#pragma once

#include <stdint.h>

namespace weft {

// The smaller of what the system says is available and what the control group (version 2) has left; INT64_MAX
// where neither can be read. Any thread.
int64_t available_bytes();

// Gives freed pages of the heap back to the system, where the allocator keeps them (glibc). Some milliseconds.
// Any thread.
void give_back_freed_memory();

}  // namespace weft
