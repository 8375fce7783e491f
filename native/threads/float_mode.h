// The floating-point mode that every tile runs under.
#pragma once

#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace weft {

// Round to nearest, denormals kept, no traps, for the life of the object; then the mode from before.
// Other libraries set a thread to flush denormals; without this a result would depend on which thread
// computed it.
class DefaultFloatMode {
 public:
#if defined(__x86_64__)
  DefaultFloatMode() : before_(_mm_getcsr()) {
    if ((before_ & kControlBits) != kDefault) _mm_setcsr(kDefault);
  }
  ~DefaultFloatMode() {
    if ((before_ & kControlBits) != kDefault) _mm_setcsr(before_);
  }

 private:
  static constexpr uint32_t kControlBits = 0xffc0, kDefault = 0x1f80;
  uint32_t before_;
#elif defined(__aarch64__)
  DefaultFloatMode() {
    __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
    if (before_ != 0) set(0);
  }
  ~DefaultFloatMode() {
    if (before_ != 0) set(before_);
  }

 private:
  static void set(uint64_t mode) { __asm__ volatile("msr fpcr, %0" ::"r"(mode)); }
  uint64_t before_;
#else
  DefaultFloatMode() {}
#endif

 public:
  DefaultFloatMode(const DefaultFloatMode&) = delete;
  DefaultFloatMode& operator=(const DefaultFloatMode&) = delete;
};

}  // namespace weft
