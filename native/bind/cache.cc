// The KV cache for Python: it is made, measured and handed to plans; its content stays native.
#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "bind/bind.h"
#include "bind/gil.h"
#include "memory/kv_cache.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {
namespace {

constexpr std::pair<const char*, DType> kTypes[] = {{"f16", DType::kF16}, {"bf16", DType::kBF16}, {"f32", DType::kF32}};

std::shared_ptr<KvCache> make_cache(int64_t layers, int64_t kv_heads, int64_t head_dim, int64_t num_blocks,
                                    const std::string& dtype) {
  for (const auto& [name, type] : kTypes)
    if (dtype == name) return std::make_shared<KvCache>(layers, kv_heads, head_dim, num_blocks, type);
  throw Error(ErrorKind::kValue,
              "a KV cache expects dtype 'f16', 'bf16' or 'f32', got '" + dtype + "'; choose one of them");
}

std::string dtype_name(const KvCache& cache) {
  for (const auto& [name, type] : kTypes)
    if (cache.dtype() == type) return name;
  return "";
}

}  // namespace

void bind_cache(nb::module_& module) {
  nb::class_<KvCache>(module, "KvCache",
                      "Keys and values of earlier tokens in blocks of 32 tokens, for all layers; zero at first.\n\n"
                      "Pages are given by the system when they are first written. Runs of plans use it without a\n"
                      "lock: give each sequence blocks of its own.")
      .def(nb::new_(&make_cache), "layers"_a, "kv_heads"_a, "head_dim"_a, "num_blocks"_a, "dtype"_a = "f16",
           "dtype: 'f16', 'bf16' or 'f32'. Raises ConfigError for sizes below 1, OutOfMemoryError when it cannot fit.")
      .def_prop_ro("layers", &KvCache::layers)
      .def_prop_ro("kv_heads", &KvCache::kv_heads)
      .def_prop_ro("head_dim", &KvCache::head_dim)
      .def_prop_ro("num_blocks", &KvCache::num_blocks)
      .def_prop_ro("dtype", &dtype_name)
      .def_prop_ro("nbytes", &KvCache::nbytes, "Bytes of all blocks, used or not.")
      .def_prop_ro("block_bytes", &KvCache::block_bytes, "Bytes of one block over all layers.")
      .def("copy_block", &KvCache::copy_block, "source"_a, "target"_a, nb::call_guard<GilReleased>(),
           "Copies all layers of one block to another. Raises ConfigError when either does not exist.")
      .def("zero_block", &KvCache::zero_block, "block"_a, nb::call_guard<GilReleased>(),
           "Sets a block to zero. Raises ConfigError when it does not exist.");
}

}  // namespace weft
