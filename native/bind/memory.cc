#include <nanobind/nanobind.h>

#include "bind/bind.h"
#include "bind/gil.h"
#include "memory/available.h"

namespace nb = nanobind;

namespace weft {

void bind_memory(nb::module_& module) {
  module.def("give_back_freed_memory", &give_back_freed_memory, nb::call_guard<GilReleased>(),
             "Gives freed pages of the heap back to the system; takes some milliseconds. Any thread.");
}

}  // namespace weft
