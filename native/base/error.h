// The one exception type that native code throws; the binding translates it.
#pragma once

#include <stdexcept>
#include <string>

namespace weft {

// Which Python exception a native error becomes (see src/weft/errors.py).
enum class ErrorKind { kValue, kPlan, kMemory, kThread, kUnsupported };

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace weft
