// A pool's life beside its runs: tasks, statistics, resize, close, fork, and its threads at rest.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "tests/native/check.h"
#include "tests/native/pool_jobs.h"
#include "threads/float_mode.h"
#include "threads/pool.h"

namespace {

using weft::Job;
using weft::Pool;
using weft::test::Counting;

void bad_counts() {
  CHECK_ERROR(kValue, Pool(0));
  CHECK_ERROR(kValue, Pool(-1));
  CHECK_ERROR(kValue, Pool(Pool::kMaxThreads + 1));
  CHECK_ERROR(kValue, Pool(2, 0));
  CHECK_ERROR(kValue, Pool(2, 3));
  CHECK_ERROR(kValue, Pool(2, 1, -2));
  Pool pool(2);
  CHECK_ERROR(kValue, pool.team(-1));
  CHECK_ERROR(kValue, pool.team(1));
  CHECK_ERROR(kValue, pool.resize(0));
}

void tasks_run_once() {
  for (const int threads : {1, 2, 4}) {
    Pool pool(threads, threads == 4 ? 2 : 1);
    std::atomic<int64_t> sum{0};
    std::vector<std::future<void>> futures;
    for (int64_t i = 0; i < 5000; ++i) futures.push_back(pool.submit([&sum, i] { sum += i; }));
    for (auto& future : futures) future.get();
    CHECK_EQUAL(sum.load(), int64_t{5000} * 4999 / 2);
  }
}

void tasks_throw_and_use_the_pool() {
  Pool pool(2);
  std::future<void> bad = pool.submit([] { throw std::runtime_error("task failed"); });
  bool thrown = false;
  try {
    bad.get();
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  CHECK(thrown);
  Counting job(3, 5);
  pool.submit([&] { pool.run(job); }).get();
  job.check_done();
  pool.submit([&] { CHECK_ERROR(kThread, pool.close()); }).get();
  pool.submit([&] { CHECK_ERROR(kThread, pool.resize(3)); }).get();
}

void tasks_and_runs_together() {
  Pool pool(3);
  std::atomic<int> num_tasks{0};
  std::vector<std::future<void>> futures;
  for (int run = 0; run < 500; ++run) {
    futures.push_back(pool.submit([&] { ++num_tasks; }));
    Counting job(3, 4);
    pool.run(job);
    job.check_done();
  }
  for (auto& future : futures) future.get();
  CHECK_EQUAL(num_tasks.load(), 500);
}

void resize_between_and_during_use() {
  Pool pool(2, 2);
  std::atomic<bool> stop{false};
  std::vector<std::thread> users;
  for (int team = 0; team < 2; ++team)
    users.emplace_back([&, team] {
      while (!stop) {
        Counting job(3, 5);
        pool.team(team).run(job);
        job.check_done();
        pool.submit([] {}).get();
      }
    });
  for (const int threads : {2, 8, 3, 2, 5}) {
    pool.resize(threads);
    CHECK_EQUAL(pool.num_threads(), threads);
    CHECK_EQUAL(pool.statistics().size(), static_cast<size_t>(threads));
    Counting a(2, 9), b(2, 9);
    pool.run_teams({&a, &b});
    a.check_done();
    b.check_done();
  }
  stop = true;
  for (auto& user : users) user.join();
  Pool single(4);
  single.resize(1);
  Counting job(2, 5);
  single.run(job);
  job.check_done();
  single.submit([] {}).get();
}

void close_waits_and_is_final() {
  std::atomic<int> num_tasks{0};
  Pool pool(2);
  for (int i = 0; i < 100; ++i)
    pool.submit([&] {
      std::this_thread::sleep_for(std::chrono::microseconds(100));
      ++num_tasks;
    });
  pool.close();
  CHECK_EQUAL(num_tasks.load(), 100);
  pool.close();
  Counting job(1, 4);
  CHECK(pool.is_closed());
  CHECK_ERROR(kThread, pool.run(job));
  CHECK_ERROR(kThread, pool.run_teams({&job}));
  CHECK_ERROR(kThread, pool.submit([] {}));
  CHECK_ERROR(kThread, pool.resize(2));
}

void close_while_running() {
  for (int repeat = 0; repeat < 30; ++repeat) {
    Pool pool(3);
    std::barrier start(4);
    std::vector<std::thread> users;
    for (int i = 0; i < 3; ++i)
      users.emplace_back([&, i] {
        start.arrive_and_wait();
        for (;;) {
          Counting job(3, 6);
          try {
            if (i == 0) pool.submit([&] { pool.statistics(); }).get();
            pool.run(job);
          } catch (const weft::Error& error) {
            CHECK(error.kind() == weft::ErrorKind::kThread);
            CHECK_EQUAL(job.num_run.load(), 0);
            return;
          }
          job.check_done();
        }
      });
    start.arrive_and_wait();
    std::this_thread::sleep_for(std::chrono::microseconds(200 * repeat));
    pool.close();
    for (auto& user : users) user.join();
  }
}

void pool_destroyed_by_its_own_task() {
  auto pool = std::make_shared<Pool>(2);
  std::atomic<bool> release{false}, done{false};
  pool->submit([&done, &release, own = pool]() mutable {
    while (!release) std::this_thread::yield();
    own.reset();
    done = true;
  });
  pool.reset();
  release = true;
  while (!done) std::this_thread::yield();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
}

double cpu_seconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return static_cast<double>(time.tv_sec) + time.tv_usec * 1e-6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

void idle_pool_uses_no_cpu() {
  for (const int threads : {2, 8}) {
    Pool pool(threads, 2);
    Counting a(10, 16), b(10, 16);
    pool.run_teams({&a, &b});
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const double before = cpu_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    CHECK(cpu_seconds() - before < 0.004);
    Counting again(10, 16);
    pool.run(again);
    again.check_done();
  }
}

void fork_is_refused_in_the_child() {
  if (std::getenv("WEFT_TEST_EMULATED") != nullptr) {
    std::printf("     skipped: the emulator itself fails in the child of a process with threads\n");
    return;
  }
  auto pool = std::make_unique<Pool>(3);
  Counting before(2, 9);
  pool->run(before);
  const pid_t child = fork();
  if (child == 0) {
    weft::test::num_failures = 0;
    Counting job(2, 9);
    CHECK_ERROR(kThread, pool->run(job));
    CHECK_ERROR(kThread, pool->run_teams({&job}));
    CHECK_ERROR(kThread, pool->submit([] {}));
    CHECK_ERROR(kThread, pool->resize(2));
    CHECK_ERROR(kThread, pool->statistics());
    pool->close();
    pool.reset();
#if !defined(__SANITIZE_THREAD__)  // it starts no threads in the child of a fork
    Pool fresh(2);
    fresh.run(job);
    job.check_done();
    fresh.close();
#endif
    _exit(weft::test::num_failures == 0 ? 0 : 1);
  }
  int status = 0;
  CHECK_EQUAL(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  Counting after(2, 9);
  pool->run(after);
  after.check_done();
}

// A caller that flushes denormals gets the same bits as the workers, and keeps its mode.
void float_mode_is_the_same_on_all_threads() {
#if defined(__x86_64__)
  Pool pool(2);
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  std::vector<float> halves(64, 1.0f);
  pool.parallel_for(0, 64, 1, [&](int64_t i, int64_t) {
    volatile float tiny = std::numeric_limits<float>::min();
    halves[static_cast<size_t>(i)] = tiny * 0.5f;
  });
  CHECK((_mm_getcsr() & 0x8040) == 0x8040);
  _mm_setcsr(before);
  for (const float half : halves) CHECK(half > 0.0f);
#endif
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"fork_is_refused_in_the_child", fork_is_refused_in_the_child},
                          {"bad_counts", bad_counts},
                          {"tasks_run_once", tasks_run_once},
                          {"tasks_throw_and_use_the_pool", tasks_throw_and_use_the_pool},
                          {"tasks_and_runs_together", tasks_and_runs_together},
                          {"resize_between_and_during_use", resize_between_and_during_use},
                          {"close_waits_and_is_final", close_waits_and_is_final},
                          {"close_while_running", close_while_running},
                          {"pool_destroyed_by_its_own_task", pool_destroyed_by_its_own_task},
                          {"idle_pool_uses_no_cpu", idle_pool_uses_no_cpu},
                          {"float_mode_is_the_same_on_all_threads", float_mode_is_the_same_on_all_threads}});
}
