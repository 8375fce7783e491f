// The interpreter's lock let go and taken, also by threads that live on when the interpreter ends.
#pragma once

#include <nanobind/nanobind.h>
#include <unistd.h>

#include <exception>

namespace weft {

// For a thread that asks for the lock of an interpreter that has ended. CPython before 3.14 unwinds its stack
// (pthread_exit), which aborts the process at the first destructor or handler that cannot be left so; here it sleeps
// until the process is gone, as 3.14 has it. What it holds then is no leak.
[[noreturn]] inline void sleep_for_ever() {
  nanobind::set_leak_warnings(false);
  for (;;) pause();
}

// Lets go of the lock for the life of the object.
class GilReleased {
 public:
  GilReleased() : state_(PyEval_SaveThread()) {}
  ~GilReleased() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      sleep_for_ever();
    }
  }
  GilReleased(const GilReleased&) = delete;
  GilReleased& operator=(const GilReleased&) = delete;

 private:
  PyThreadState* const state_;
};

// Holds the lock for the life of the object. Any thread, whether it holds it or not.
class GilHeld {
 public:
  GilHeld() : state_(ensure()) {}
  ~GilHeld() { PyGILState_Release(state_); }
  GilHeld(const GilHeld&) = delete;
  GilHeld& operator=(const GilHeld&) = delete;

 private:
  static PyGILState_STATE ensure() {
    const bool is_late = !Py_IsInitialized() && PyGILState_GetThisThreadState() == nullptr;
    if (is_late) sleep_for_ever();
    try {
      return PyGILState_Ensure();
    } catch (...) {
      sleep_for_ever();
    }
  }

  const PyGILState_STATE state_;
};

// Calls `body`, which calls Python, with the lock held: the interpreter may end while Python code waits for it.
template <class Body>
void with_gil(const Body& body) {
  const GilHeld held;
  try {
    body();
  } catch (const std::exception&) {
    throw;
  } catch (...) {
    sleep_for_ever();
  }
}

}  // namespace weft
