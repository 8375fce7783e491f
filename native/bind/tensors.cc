// Tensors for Python: NumPy arrays that plans read and add to, without a copy.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>

#include "base/error.h"
#include "bind/bind.h"
#include "memory/tensor.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace weft {
namespace {

using FloatArray = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

// Keeps a Python object alive, and lets go of it with the GIL held.
std::shared_ptr<const void> keep(nb::object object) {
  return std::shared_ptr<const void>(object.release().ptr(), [](const void* pointer) {
    const nb::gil_scoped_acquire held;
    Py_DECREF(static_cast<PyObject*>(const_cast<void*>(pointer)));
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
  return std::make_shared<Tensor>(array.data(), rows, columns, keep(std::move(object)));
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
