// Packed weights for Python.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include "base/error.h"
#include "bind/bind.h"
#include "bind/gil.h"
#include "ops/weight_pack.h"
#include "threads/float_mode.h"
#include "threads/pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {

namespace {

constexpr int kHeaderVersion = 2;
constexpr const char* kMinimumNames[] = {"none", "stored", "centered"};

// A read-only view of any object with the buffer protocol, released with the GIL held.
class BufferView {
 public:
  explicit BufferView(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  ~BufferView() {
    const GilHeld held;
    PyBuffer_Release(&view_);
  }
  BufferView(const BufferView&) = delete;
  BufferView& operator=(const BufferView&) = delete;

  const uint8_t* data() const { return static_cast<const uint8_t*>(view_.buf); }
  size_t bytes() const { return static_cast<size_t>(view_.len); }

 private:
  Py_buffer view_;
};

std::vector<int32_t> row_order_of(nb::handle order) {
  if (order.is_none()) return {};
  const auto array = nb::cast<nb::ndarray<const int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>>(order);
  return std::vector<int32_t>(array.data(), array.data() + array.shape(0));
}

std::shared_ptr<Weight> pack(Pool& pool, nb::sequence parts, bool interleave, std::optional<std::string> target) {
  std::vector<std::unique_ptr<BufferView>> views;
  std::vector<FileMatrix> matrices;
  for (nb::handle part : parts) {
    views.push_back(std::make_unique<BufferView>(part[3]));
    matrices.push_back({block_kind(nb::cast<std::string>(part[0])), nb::cast<int64_t>(part[1]),
                        nb::cast<int64_t>(part[2]), views.back()->data(), views.back()->bytes(),
                        row_order_of(part[4])});
  }
  std::optional<PanelKind> kind;
  if (target) kind = panel_kind(*target);
  if (kind == PanelKind::kF16)
    throw Error(ErrorKind::kValue, "expected a target among f32, bf16, q8, q4 and int8, got 'f16'; choose one of them");
  const GilReleased released;
  return pack_weight(pool.team(0), matrices, interleave, kind);
}

nb::dict header(const Weight& weight) {
  nb::list parts, kinds;
  for (const WeightPart& part : weight.parts()) {
    nb::dict fields;
    fields["kind"] = panel_kind_name(part.format.kind);
    fields["n"] = part.n;
    fields["scales_per_group"] = part.format.scales_per_group;
    fields["scale_bytes"] = part.format.scale_bytes;
    fields["minimum"] = kMinimumNames[static_cast<int>(part.format.minimum)];
    parts.append(fields);
    kinds.append(fields["kind"]);
  }
  nb::dict result;
  result["version"] = kHeaderVersion;
  result["n"] = weight.n();
  result["k"] = weight.k();
  result["interleave"] = weight.is_interleaved();
  result["nbytes"] = weight.bytes();
  result["kinds"] = kinds;
  result["parts"] = parts;
  return result;
}

[[noreturn]] void refuse_header(const std::string& what) {
  throw Error(ErrorKind::kValue, "expected the header of a packed weight of this version, got one with " + what +
                                     "; pack the weight again");
}

template <class Value>
Value field(const nb::dict& values, const char* name) {
  Value value = {};
  if (!values.contains(name) || !nb::try_cast<Value>(values[name], value)) refuse_header(std::string("no valid '") + name + "'");
  return value;
}

PartShape part_shape(nb::handle described) {
  nb::dict values;
  if (!nb::try_cast<nb::dict>(described, values)) refuse_header("a part that is no mapping");
  const std::string minimum = field<std::string>(values, "minimum");
  PartShape shape;
  shape.n = field<int64_t>(values, "n");
  shape.format.kind = panel_kind(field<std::string>(values, "kind"));
  shape.format.scales_per_group = field<int32_t>(values, "scales_per_group");
  shape.format.scale_bytes = field<int32_t>(values, "scale_bytes");
  int known = 0;
  while (known < 3 && minimum != kMinimumNames[known]) ++known;
  if (known == 3) refuse_header("the minimum '" + minimum + "'");
  shape.format.minimum = static_cast<Minimum>(known);
  return shape;
}

std::shared_ptr<Weight> from_packed(nb::dict header, nb::object buffer) {
  if (field<int64_t>(header, "version") != kHeaderVersion) refuse_header("another version");
  std::vector<PartShape> parts;
  nb::list described;
  if (!header.contains("parts") || !nb::try_cast<nb::list>(header["parts"], described)) refuse_header("no list of parts");
  for (nb::handle part : described) parts.push_back(part_shape(part));
  auto weight = std::make_shared<Weight>(parts, field<int64_t>(header, "k"), field<bool>(header, "interleave"));
  if (weight->n() != field<int64_t>(header, "n")) refuse_header("parts that do not add up to 'n'");
  auto view = std::make_shared<BufferView>(buffer);
  const uint8_t* data = view->data();
  const size_t bytes = view->bytes();
  weight->set_data(data, bytes, std::move(view));
  return weight;
}

nb::object packed(nb::handle self) {
  const Weight& weight = nb::cast<const Weight&>(self);
  const size_t shape[1] = {weight.bytes()};
  return nb::cast(nb::ndarray<nb::numpy, const uint8_t>(weight.data(), 1, shape, self), nb::rv_policy::reference);
}

nb::object dequantize(const Weight& weight) {
  const int64_t n = weight.n(), k = weight.k();
  float* values = new float[static_cast<size_t>(n * k)];
  nb::capsule owner(values, [](void* pointer) noexcept { delete[] static_cast<float*>(pointer); });
  {
    const GilReleased released;
    const DefaultFloatMode mode;
    for (int64_t row = 0; row < n; ++row) weight.dequantize_row(row, values + row * k);
  }
  const size_t shape[2] = {static_cast<size_t>(n), static_cast<size_t>(k)};
  return nb::cast(nb::ndarray<nb::numpy, float>(values, 2, shape, owner), nb::rv_policy::reference);
}

}  // namespace

void bind_weights(nb::module_& module) {
  nb::class_<Weight>(module, "Weight", "A weight [n, k] in the panels that products read. Immutable; any thread.")
      .def_static("pack", &pack, "pool"_a, "parts"_a, "interleave"_a = false, "target"_a.none() = nb::none(),
                  "Packs parts (kind, n, k, buffer, row_order or None), joined along their outputs, on the pool.\n\n"
                  "interleave: two equal parts, gate and up. target: requantize to f32, bf16, q8, q4 or int8. Raises "
                  "ConfigError for sizes that do not fit or weights that are not finite, UnsupportedError for an "
                  "unknown kind, OutOfMemoryError. The GIL is released.")
      .def_static("from_packed", &from_packed, "header"_a, "buffer"_a,
                  "The weight with this header and these packed bytes (aligned to 64), which are not copied and are "
                  "kept alive. Raises ConfigError when they do not fit.")
      .def_prop_ro("header", &header, "What from_packed needs beside the bytes: numbers, strings, lists, dicts.")
      .def_prop_ro("packed", &packed, "The packed bytes, uint8 [nbytes], read-only, not copied.")
      .def_prop_ro("n", &Weight::n, "Outputs.")
      .def_prop_ro("k", &Weight::k, "Inputs.")
      .def_prop_ro("nbytes", &Weight::bytes, "Packed bytes, padding included.")
      .def_prop_ro("flops_per_row", [](const Weight& weight) { return 2.0 * weight.n() * weight.k(); },
                   "Operations of a product with one row, a multiplication and an addition counted as two.")
      .def("dequantize", &dequantize, "The weight as float32 [n, k]; of an interleaved one gate's rows, then up's.");
}

}  // namespace weft
