#include "memory/available.h"

#include <inttypes.h>
#include <stdio.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <algorithm>

namespace weft {

namespace {

// The first number in a file that matches `format`, or `fallback`.
int64_t read_number(const std::string& path, const char* format, int64_t fallback) {
  FILE* file = fopen(path.c_str(), "r");
  if (file == nullptr) return fallback;
  char line[256];
  int64_t value = fallback;
  while (fgets(line, sizeof(line), file) != nullptr)
    if (sscanf(line, format, &value) == 1) break;
  fclose(file);
  return value;
}

int64_t system_available_bytes(const std::string& root) {
  const int64_t kilobytes = read_number(root + "/proc/meminfo", "MemAvailable: %" SCNd64, -1);
  return kilobytes < 0 ? INT64_MAX : kilobytes * 1024;
}

// Pages of files, a model's among them, are counted as used and are given back when memory is asked for.
int64_t group_available_bytes(const std::string& root) {
  const std::string group = root + "/sys/fs/cgroup/";
  const int64_t limit = read_number(group + "memory.max", "%" SCNd64, -1);  // "max": no limit
  const int64_t used = read_number(group + "memory.current", "%" SCNd64, 0);
  const int64_t cached = read_number(group + "memory.stat", "active_file %" SCNd64, 0) +
                         read_number(group + "memory.stat", "inactive_file %" SCNd64, 0);
  return limit < 0 ? INT64_MAX : std::max<int64_t>(0, limit - used + cached);
}

}  // namespace

int64_t available_bytes(const std::string& root) {
  return std::min(system_available_bytes(root), group_available_bytes(root));
}

void give_back_freed_memory() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

}  // namespace weft
