#include "threads/parking.h"

#include <sched.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace weft {

#if defined(__linux__)

static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "a futex is a plain 32-bit word");

void wait_on_word(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void wake_on_word(std::atomic<uint32_t>& word, int max_threads) {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, max_threads, nullptr, nullptr, 0);
}

#else

void wait_on_word(std::atomic<uint32_t>& word, uint32_t expected) { word.wait(expected); }

void wake_on_word(std::atomic<uint32_t>& word, int) { word.notify_all(); }

#endif

void yield_processor() { sched_yield(); }

}  // namespace weft
