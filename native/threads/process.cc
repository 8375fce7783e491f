#include "threads/process.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>

#include <atomic>
#include <new>
#include <thread>

namespace weft {
namespace {

std::atomic<uint64_t> num_forks{0};

void count_fork() { num_forks.fetch_add(1, std::memory_order_relaxed); }

[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, count_fork);

static_assert(sizeof(sigset_t) <= 128);

}  // namespace

uint64_t fork_generation() { return num_forks.load(std::memory_order_relaxed); }

int affinity_cores() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0 && CPU_COUNT(&allowed) > 0)
    return CPU_COUNT(&allowed);
#endif
  const unsigned cores = std::thread::hardware_concurrency();
  return cores > 0 ? static_cast<int>(cores) : 1;
}

#if defined(__linux__)
static_assert(sizeof(cpu_set_t) <= 128);

OnOneCore::OnOneCore(int index) {
  cpu_set_t* before = new (before_) cpu_set_t;
  if (sched_getaffinity(0, sizeof(cpu_set_t), before) != 0 || CPU_COUNT(before) == 0) return;
  int cpu = -1;
  for (int left = index % CPU_COUNT(before); left >= 0; --left)
    do ++cpu;
    while (!CPU_ISSET(cpu, before));
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  is_kept_ = sched_setaffinity(0, sizeof(one), &one) == 0;
}

OnOneCore::~OnOneCore() {
  if (is_kept_) sched_setaffinity(0, sizeof(cpu_set_t), reinterpret_cast<const cpu_set_t*>(before_));
}
#else
OnOneCore::OnOneCore(int) {}
OnOneCore::~OnOneCore() {}
#endif

BlockSignals::BlockSignals() {
  sigset_t asynchronous;
  sigfillset(&asynchronous);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGPROF}) sigdelset(&asynchronous, fault);
  pthread_sigmask(SIG_SETMASK, &asynchronous, new (before_) sigset_t);
}

BlockSignals::~BlockSignals() {
  pthread_sigmask(SIG_SETMASK, reinterpret_cast<const sigset_t*>(before_), nullptr);
}

void name_this_thread(int team, int thread) {
#if defined(__linux__)
  char name[16];
  snprintf(name, sizeof(name), "weft-%d.%d", team, thread);
  pthread_setname_np(pthread_self(), name);
#else
  (void)team, (void)thread;
#endif
}

}  // namespace weft
