// Page-aligned memory straight from the system: zero at first, given real pages when first touched.
#pragma once

#include <stddef.h>

namespace weft {

// kHuge asks for pages of 2 MB: faster where all of it is used, a waste where little is.
enum class Pages { kNormal, kHuge };

// Owns one anonymous mapping. Movable, not copyable.
class Region {
 public:
  Region() = default;
  // Throws Error(kMemory), naming `purpose`, when the system refuses.
  Region(size_t bytes, const char* purpose, Pages pages = Pages::kNormal);
  ~Region();
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace weft
