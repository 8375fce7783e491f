#include "ops/op.h"

#include "memory/tensor.h"

namespace weft {

namespace {

[[noreturn]] void missing(const NodeSpec& spec, const char* what, const std::string& name) {
  throw Error(ErrorKind::kPlan, "operation '" + spec.op + "' needs " + what + " '" + name +
                                    "', which its node does not have; rebuild the plan");
}

template <typename Value>
const Value* find(const std::map<std::string, Value>& values, const std::string& name) {
  const auto found = values.find(name);
  return found == values.end() ? nullptr : &found->second;
}

}  // namespace

double NodeSpec::number(const std::string& name) const {
  const double* value = find(numbers, name);
  if (!value) missing(*this, "the attribute", name);
  return *value;
}

double NodeSpec::number_or(const std::string& name, double fallback) const {
  const double* value = find(numbers, name);
  return value ? *value : fallback;
}

std::string NodeSpec::string_or(const std::string& name, const std::string& fallback) const {
  const std::string* value = find(strings, name);
  return value ? *value : fallback;
}

int NodeSpec::input(const std::string& name) const {
  const int* index = find(inputs, name);
  if (!index) missing(*this, "the operand", name);
  return *index;
}

int NodeSpec::input_or_none(const std::string& name) const {
  const int* index = find(inputs, name);
  return index ? *index : -1;
}

int NodeSpec::output(const std::string& name) const {
  const int* index = find(outputs, name);
  if (!index) missing(*this, "the output", name);
  return *index;
}

const Weight* NodeSpec::weight(const std::string& name) const {
  const auto* value = find(weights, name);
  if (!value) missing(*this, "the weight", name);
  return value->get();
}

Vector NodeSpec::vector_or_null(const std::string& name, int64_t expected_size) const {
  const auto* fixed = find(vectors, name);
  const std::shared_ptr<Tensor> trained = tensor_or_null(name);
  if (!fixed && !trained) return nullptr;
  const int64_t size = trained ? trained->size() : static_cast<int64_t>((*fixed)->size());
  if (size != expected_size) {
    throw Error(ErrorKind::kPlan, "operation '" + op + "' expects " + std::to_string(expected_size) + " values in '" +
                                      name + "', got " + std::to_string(size) +
                                      "; check the model's configuration against its files");
  }
  return trained ? Vector(trained, trained->data()) : Vector(*fixed, (*fixed)->data());
}

std::shared_ptr<Tensor> NodeSpec::tensor_or_null(const std::string& name) const {
  const auto* value = find(tensors, name);
  return value ? *value : nullptr;
}

std::shared_ptr<Tensor> NodeSpec::tensor_or_null(const std::string& name, int64_t rows, int64_t columns) const {
  std::shared_ptr<Tensor> tensor = tensor_or_null(name);
  if (tensor && (tensor->rows() != rows || tensor->columns() != columns)) {
    throw Error(ErrorKind::kPlan, "operation '" + op + "' expects " + std::to_string(rows) + " x " +
                                      std::to_string(columns) + " values in '" + name + "', got " +
                                      std::to_string(tensor->rows()) + " x " + std::to_string(tensor->columns()) +
                                      "; rebuild the plan");
  }
  return tensor;
}

Vector NodeSpec::vector(const std::string& name, int64_t expected_size) const {
  Vector values = vector_or_null(name, expected_size);
  if (!values) missing(*this, "the vector", name);
  return values;
}

KvCache* NodeSpec::cache(const std::string& name) const {
  const auto* value = find(caches, name);
  if (!value) missing(*this, "the cache", name);
  return value->get();
}

int64_t Op::num_tiles(int, const OpArgs& args) const { return num_rows(args); }
void Op::run_tile(int, int64_t tile, const OpArgs& args, int thread) const { run_rows(tile, tile + 1, args, thread); }
int64_t Op::num_rows(const OpArgs& args) const { return args.out[0].rows; }
void Op::run_rows(int64_t, int64_t, const OpArgs&, int) const {}

}  // namespace weft
