// The parts of the extension module; one file each.
#pragma once

#include <nanobind/nanobind.h>

namespace weft {

void bind_isa(nanobind::module_& module);      // instruction sets of the machine and the build
void bind_memory(nanobind::module_& module);   // memory of the process
void bind_threads(nanobind::module_& module);  // Pool, Team
void bind_weights(nanobind::module_& module);  // Weight: packing and dequantizing
void bind_tensors(nanobind::module_& module);  // Tensor: arrays that training changes
void bind_cache(nanobind::module_& module);    // KvCache
void bind_plan(nanobind::module_& module);     // Plan: build, run, trace
void bind_optimizer(nanobind::module_& module);  // gradient_norm, update_weights
void bind_limits(nanobind::module_& module);   // measure_limits

}  // namespace weft
