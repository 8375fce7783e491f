// Time as cheap as the processor gives it.
#pragma once

#include <stdint.h>

#include <chrono>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace weft {

inline int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A counter of constant rate, several times cheaper to read than now_ns().
inline int64_t now_ticks() {
#if defined(__x86_64__)
  return static_cast<int64_t>(__rdtsc());
#elif defined(__aarch64__)
  int64_t ticks;
  __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return now_ns();
#endif
}

// Converts ticks to nanoseconds by the rate seen since this object was made.
class TickRate {
 public:
  TickRate() : start_ns_(now_ns()), start_ticks_(now_ticks()) {}
  double ns_per_tick() const {
    const int64_t ticks = now_ticks() - start_ticks_;
    return ticks > 0 ? static_cast<double>(now_ns() - start_ns_) / static_cast<double>(ticks) : 0.0;
  }

 private:
  int64_t start_ns_;
  int64_t start_ticks_;
};

// Tells the core that this is a waiting loop: frees it for a sibling and saves power.
inline void cpu_pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}

}  // namespace weft
