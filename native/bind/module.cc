// The extension module: each part of the core binds itself.
#include <nanobind/nanobind.h>

#include "base/error.h"
#include "bind/bind.h"

namespace nb = nanobind;

namespace {

const char* python_name(weft::ErrorKind kind) {
  switch (kind) {
    case weft::ErrorKind::kValue: return "ConfigError";
    case weft::ErrorKind::kPlan: return "PlanError";
    case weft::ErrorKind::kMemory: return "OutOfMemoryError";
    case weft::ErrorKind::kThread: return "ThreadError";
    case weft::ErrorKind::kUnsupported: return "UnsupportedError";
  }
  return "WeftError";
}

void translate(const std::exception_ptr& error, void*) {
  try {
    std::rethrow_exception(error);
  } catch (const weft::Error& native) {
    nb::object type = nb::module_::import_("weft.errors").attr(python_name(native.kind()));
    PyErr_SetString(type.ptr(), native.what());
  }
}

}  // namespace

NB_MODULE(_native, module) {
  nb::register_exception_translator(translate);
  weft::bind_isa(module);
  weft::bind_memory(module);
  weft::bind_threads(module);
  weft::bind_weights(module);
  weft::bind_tensors(module);
  weft::bind_cache(module);
  weft::bind_plan(module);
  weft::bind_optimizer(module);
  weft::bind_limits(module);
}
