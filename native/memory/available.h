// How much memory this process may still ask for, and giving back what it has freed.
#pragma once

#include <stdint.h>

#include <string>

namespace weft {

// The smaller of what the system says is available and what the control group (version 2) at the top of the mount, a
// container's own, has left, where cached files count as left; INT64_MAX where neither can be read. Files are looked
// for below `root`. Any thread.
int64_t available_bytes(const std::string& root = "");

// Gives freed pages of the heap back to the system, where the allocator keeps them (glibc). Some milliseconds.
// Any thread.
void give_back_freed_memory();

}  // namespace weft
