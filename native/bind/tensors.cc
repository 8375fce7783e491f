// Tensors for Python: NumPy arrays that plans read and add to, without a copy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>

#include "base/error.h"
#include "bind/bind.h"
#include "bind/gil.h"
#include "memory/tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {
namespace {

using FloatArray = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

// Keeps an array's memory, and lets go of it with the GIL held.
std::shared_ptr<const void> keep(FloatArray array) {
  return std::shared_ptr<const void>(new FloatArray(std::move(array)), [](const void* pointer) {
    const GilHeld held;
    delete static_cast<const FloatArray*>(pointer);
  });
}

std::shared_ptr<Tensor> make_tensor(nb::object object) {
  FloatArray array;
  if (!nb::try_cast<FloatArray>(object, array, false) || array.ndim() < 1 || array.ndim() > 2 || array.size() == 0)
    throw Error(ErrorKind::kValue,
                "a tensor expects a writable C-contiguous float32 array of one or two dimensions that is not empty");
  const bool is_vector = array.ndim() == 1;
  const int64_t rows = is_vector ? 1 : static_cast<int64_t>(array.shape(0));
  const int64_t columns = static_cast<int64_t>(array.shape(is_vector ? 0 : 1));
  float* data = array.data();
  return std::make_shared<Tensor>(data, rows, columns, keep(std::move(array)));
}

}  // namespace

void bind_tensors(nb::module_& module) {
  nb::class_<Tensor>(module, "Tensor", "A float32 array that plans read and add to; it shares the array's memory.")
      .def(nb::new_(&make_tensor), "array"_a,
           "array: writable, C-contiguous float32, [n, k] or [size]; kept alive. Raises ConfigError for others.")
      .def_prop_ro("rows", &Tensor::rows, "Rows; 1 for a vector.")
      .def_prop_ro("columns", &Tensor::columns, "Elements of a row.");
}

}  // namespace weft
