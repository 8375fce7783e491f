// The little that a C++ test needs: named cases, checks that say what they saw, and a count of failures.
//
//   void adds() { CHECK(1 + 1 == 2); CHECK_EQUAL(add(1, 1), 2); CHECK_ERROR(kValue, add(1, -1)); }
//   int main(int argc, char** argv) { return weft::test::run(argc, argv, {{"adds", adds}}); }
//
// An argument runs only the cases whose name contains it. Checks may fail on any thread.
#pragma once

#include <atomic>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace weft::test {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr bool kIsSanitized = true;
#else
constexpr bool kIsSanitized = false;
#endif

// All of `cases`, or one in four where instrumented code would take minutes for them.
template <class T>
std::vector<T> affordable(const std::vector<T>& cases) {
  std::vector<T> chosen;
  for (size_t i = 0; i < cases.size(); i += kIsSanitized ? 4 : 1) chosen.push_back(cases[i]);
  return chosen;
}

inline std::atomic<int> num_failures{0};

inline void fail(const char* file, int line, const std::string& what) {
  constexpr int kMostPrinted = 50;
  if (num_failures.fetch_add(1) < kMostPrinted) std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
}

template <class A, class B>
void check_equal(const char* file, int line, const char* expression, const A& got, const B& expected) {
  if (got == expected) return;
  std::ostringstream text;
  text << expression << ": expected " << expected << ", got " << got;
  fail(file, line, text.str());
}

template <class Function>
void check_error(const char* file, int line, const char* expression, ErrorKind kind, const Function& function) {
  try {
    function();
    fail(file, line, std::string(expression) + ": expected an Error, none was thrown");
  } catch (const Error& error) {
    if (error.kind() != kind) fail(file, line, std::string(expression) + ": another kind: " + error.what());
  }
}

struct Case {
  const char* name;
  void (*function)();
};

inline int run(int argc, char** argv, const std::vector<Case>& cases) {
  const std::string wanted = argc > 1 ? argv[1] : "";
  for (const Case& test : cases) {
    if (std::string(test.name).find(wanted) == std::string::npos) continue;
    const int before = num_failures.load();
    try {
      test.function();
    } catch (const std::exception& error) {
      fail(test.name, 0, std::string("threw: ") + error.what());
    }
    std::printf("%s %s\n", num_failures.load() == before ? "ok  " : "FAIL", test.name);
    std::fflush(stdout);
  }
  return num_failures.load() == 0 ? 0 : 1;
}

}  // namespace weft::test

#define CHECK(condition) \
  ((condition) ? (void)0 : weft::test::fail(__FILE__, __LINE__, "expected " #condition))
#define CHECK_EQUAL(got, expected) weft::test::check_equal(__FILE__, __LINE__, #got, got, expected)
#define CHECK_ERROR(kind, ...) \
  weft::test::check_error(__FILE__, __LINE__, #__VA_ARGS__, weft::ErrorKind::kind, [&] { __VA_ARGS__; })
