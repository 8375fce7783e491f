#include "threads/pool.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <memory>
#include <optional>

#include "bind/bind.h"
#include "bind/gil.h"
#include "threads/process.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {
namespace {

void parallel_for(Team& team, int64_t begin, int64_t end, int64_t grain, const nb::callable& function) {
  const GilReleased released;
  team.parallel_for(begin, end, grain, [&](int64_t first, int64_t last) {
    with_gil([&] { function(first, last); });
  });
}

nb::list map(Team& team, const nb::callable& function, const nb::iterable& items) {
  const nb::list inputs(items);
  const int64_t count = static_cast<int64_t>(inputs.size());
  nb::list results;
  for (int64_t i = 0; i < count; ++i) results.append(nb::none());
  const GilReleased released;
  team.parallel_for(0, count, 1, [&](int64_t i, int64_t) {
    with_gil([&] { results[static_cast<size_t>(i)] = function(inputs[static_cast<size_t>(i)]); });
  });
  return results;
}

// A call of a Python function whose outcome goes to a concurrent.futures.Future. Made, run and ended on
// different threads; every touch of its objects holds the GIL.
class PythonTask {
 public:
  PythonTask(nb::object future, nb::callable function, nb::args args, nb::kwargs kwargs)
      : future_(std::move(future)), function_(std::move(function)), args_(std::move(args)),
        kwargs_(std::move(kwargs)) {}

  ~PythonTask() {
    const GilHeld held;
    release();
  }

  void run() {
    with_gil([this] {
      call();
      release();
    });
  }

 private:
  void call() {
    if (!nb::cast<bool>(future_.attr("set_running_or_notify_cancel")())) return;
    try {
      future_.attr("set_result")(function_(*args_, **kwargs_));
    } catch (nb::python_error& error) {
      future_.attr("set_exception")(error.value());
    }
  }

  void release() {
    future_.reset();
    function_.reset();
    args_.reset();
    kwargs_.reset();
  }

  nb::object future_, function_, args_, kwargs_;
};

nb::object submit(Pool& pool, nb::callable function, nb::args args, nb::kwargs kwargs) {
  nb::object future = nb::module_::import_("concurrent.futures").attr("Future")();
  auto task = std::make_shared<PythonTask>(future, std::move(function), std::move(args), std::move(kwargs));
  {
    const GilReleased released;
    pool.submit([task = std::move(task)] { task->run(); });
  }
  return future;
}

nb::list statistics(const Pool& pool) {
  nb::list rows;
  for (const ThreadStatistics& thread : pool.statistics()) {
    nb::dict row;
    row["team"] = thread.team;
    row["thread"] = thread.thread;
    row["busy_ns"] = thread.busy_ns;
    row["wait_ns"] = thread.wait_ns;
    row["num_tiles"] = thread.num_tiles;
    row["num_steals"] = thread.num_steals;
    row["num_parks"] = thread.num_parks;
    row["num_tasks"] = thread.num_tasks;
    rows.append(row);
  }
  return rows;
}

// A pool that Python owns. Its end waits for tasks, which need the GIL: once the interpreter has ended they never get it.
class OwnedPool final : public Pool {
 public:
  using Pool::Pool;
  ~OwnedPool() override {
    if (!Py_IsInitialized()) {
      abandon();
    } else {
      const GilReleased released;
      release();
    }
  }
};

void construct_pool(OwnedPool* place, int threads, int teams, std::optional<int64_t> spin_us) {
  const GilReleased released;
  new (place) OwnedPool(threads, teams, spin_us.value_or(PoolContext::kDefaultSpin));
}

constexpr const char* kParallelForSignature =
    "def parallel_for(self, begin: int, end: int, grain: int, "
    "function: collections.abc.Callable[[int, int], object]) -> None";
constexpr const char* kParallelForDoc =
    "Equals ``for first in range(begin, end, grain): function(first, min(first + grain, end))``.\n\n"
    "The calls run in any order on the threads of the team (of a pool: its team 0), the caller's among them.\n"
    "The first exception of a call is raised here; calls not yet begun are then skipped. Any thread may call;\n"
    "calls on one team take turns.\n\n"
    "Raises ConfigError for grain < 1; ThreadError when the pool is closed or was made before a fork, or when\n"
    "called from within a call that the pool runs.";
constexpr const char* kMapSignature =
    "def map(self, function: collections.abc.Callable[[object], object], "
    "items: collections.abc.Iterable[object]) -> list[object]";
constexpr const char* kMapDoc =
    "Equals ``[function(item) for item in items]``, in any order of calls; else as parallel_for.";

void bind_team(nb::module_& module) {
  nb::class_<Team>(module, "Team", "Threads of a pool that run one thing together. From Pool.team().")
      .def_prop_ro("num_threads", &Team::num_threads, "Threads, the caller's included.")
      .def("parallel_for", &parallel_for, "begin"_a, "end"_a, "grain"_a, "function"_a,
           nb::sig(kParallelForSignature), kParallelForDoc)
      .def("map", &map, "function"_a, "items"_a, nb::sig(kMapSignature), kMapDoc);
}

void bind_pool(nb::module_& module) {
  nb::class_<Pool, OwnedPool>(module, "Pool",
                   "Threads, made once, in teams of nearly equal size.\n\n"
                   "The caller is one of the threads, so threads - 1 are started. Idle ones spin for spin_us\n"
                   "microseconds (default: WEFT_SPIN_US, else as measured; none when there are more threads\n"
                   "than cores) and then sleep. Any thread may use a pool; close() it, or leave its ``with``\n"
                   "block, before the interpreter ends.\n\n"
                   "Raises ConfigError for a count out of range, ThreadError when a thread cannot be started.")
      .def("__init__", &construct_pool, "threads"_a, "teams"_a = 1, "spin_us"_a = nb::none())
      .def_prop_ro("num_threads", &Pool::num_threads, "Threads of all teams together.")
      .def_prop_ro("num_teams", &Pool::num_teams)
      .def_prop_ro("is_closed", &Pool::is_closed)
      .def("team", &Pool::team, "index"_a, nb::rv_policy::reference_internal,
           "Team `index`, from 0. Raises ConfigError when there is none. Stays valid over resize().")
      .def(
          "parallel_for",
          [](Pool& pool, int64_t begin, int64_t end, int64_t grain, const nb::callable& function) {
            parallel_for(pool.team(0), begin, end, grain, function);
          },
          "begin"_a, "end"_a, "grain"_a, "function"_a, nb::sig(kParallelForSignature), kParallelForDoc)
      .def(
          "map",
          [](Pool& pool, const nb::callable& function, const nb::iterable& items) {
            return map(pool.team(0), function, items);
          },
          "function"_a, "items"_a, nb::sig(kMapSignature), kMapDoc)
      .def("submit", &submit, "function"_a, "args"_a, "kwargs"_a,
           nb::sig("def submit(self, function: collections.abc.Callable[..., object], *args: object, "
                   "**kwargs: object) -> concurrent.futures.Future[typing.Any]"),
           "Has an idle worker call ``function(*args, **kwargs)`` once; the future gets what it returns or\n"
           "raises, and can cancel it before it begins.\n\n"
           "With many calls waiting (1024) the caller runs the oldest of them first; in a pool of one thread\n"
           "the call is over when submit returns. A call that waits for a later one may wait for ever.\n"
           "Raises ThreadError when the pool is closed or was made before a fork.")
      .def("statistics", &statistics, nb::sig("def statistics(self) -> list[dict[str, int]]"),
           "One dict a thread since the start or the last resize: team, thread (0: whoever calls), busy_ns\n"
           "(in runs, running tiles), wait_ns (in runs, for others), num_tiles, num_steals (tiles from another\n"
           "thread's share), num_parks (times it went to sleep), num_tasks (of submit).")
      .def("resize", &Pool::resize, "threads"_a, nb::call_guard<GilReleased>(),
           "Waits for what has begun, then goes on with `threads` threads in as many teams as before.\n\n"
           "Raises ConfigError for a count out of range; ThreadError when a thread cannot be started, the pool\n"
           "is closed or was made before a fork, or from within one of its tiles or tasks.")
      .def("close", &Pool::close, nb::call_guard<GilReleased>(),
           "Waits for all runs and submitted calls, then ends the threads; later use raises ThreadError.\n\n"
           "Again, or in the child of a fork: no effect. Raises ThreadError from within a tile or a task.")
      .def("__enter__", [](nb::handle self) { return nb::borrow(self); },
           nb::sig("def __enter__(self) -> typing.Self"))
      .def(
          "__exit__",
          [](Pool& pool, const nb::args&) {
            const GilReleased released;
            pool.close();
          },
          nb::sig("def __exit__(self, *error: object) -> None"));
}

}  // namespace

void bind_threads(nb::module_& module) {
  bind_team(module);
  bind_pool(module);
  module.def("affinity_cores", &affinity_cores,
             "Processors that this process may run on by its affinity mask, without regard to a quota.");
}

}  // namespace weft
