#include "isa/cache.h"

#include <unistd.h>

#include <fstream>
#include <string>

namespace weft {
namespace {

int64_t configured(int name) {
  const long bytes = sysconf(name);
  return bytes > 0 ? bytes : 0;
}

// "32K", "1024K", "32M" as Linux prints them.
int64_t parse_bytes(const std::string& text) {
  if (text.empty() || text[0] < '0' || text[0] > '9') return 0;
  size_t digits = 0;
  const int64_t number = std::stoll(text.substr(0, 12), &digits);
  const char unit = digits < text.size() ? text[digits] : ' ';
  return unit == 'K' ? number << 10 : unit == 'M' ? number << 20 : number;
}

std::string first_word(const std::string& path) {
  std::string word;
  std::ifstream(path) >> word;
  return word;
}

// Linux lists the caches as files; what it does not list the C library may know. It is asked second: on some virtual
// machines it multiplies the third cache by cores that are not there.
CacheSizes read() {
  CacheSizes sizes;
  for (int index = 0; index < 8; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    const std::string level = first_word(folder + "level");
    if (level.empty() || first_word(folder + "type") == "Instruction") continue;
    int64_t& size = level == "1" ? sizes.l1d_bytes : level == "2" ? sizes.l2_bytes : sizes.l3_bytes;
    if (size == 0 && level <= "3") size = parse_bytes(first_word(folder + "size"));
  }
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  if (sizes.l1d_bytes == 0) sizes.l1d_bytes = configured(_SC_LEVEL1_DCACHE_SIZE);
  if (sizes.l2_bytes == 0) sizes.l2_bytes = configured(_SC_LEVEL2_CACHE_SIZE);
  if (sizes.l3_bytes == 0) sizes.l3_bytes = configured(_SC_LEVEL3_CACHE_SIZE);
#endif
  return sizes;
}

}  // namespace

const CacheSizes& cache_sizes() {
  static const CacheSizes sizes = read();
  return sizes;
}

}  // namespace weft
