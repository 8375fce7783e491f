#include "memory/region.h"

#include <sys/mman.h>

#include <string>
#include <utility>

#include "base/error.h"

namespace weft {

Region::Region(size_t bytes, const char* purpose, Pages pages) {
  if (bytes == 0) return;
  void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) {
    throw Error(ErrorKind::kMemory, "the system refused " + std::to_string(bytes) + " bytes for " + purpose +
                                        "; use a smaller batch, context or model");
  }
#if defined(MADV_HUGEPAGE)
  if (pages == Pages::kHuge) madvise(mapped, bytes, MADV_HUGEPAGE);  // a wish: the system may refuse it
#else
  (void)pages;
#endif
  data_ = mapped;
  bytes_ = bytes;
}

Region::~Region() {
  if (data_) munmap(data_, bytes_);
}

Region::Region(Region&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Region& Region::operator=(Region&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace weft
