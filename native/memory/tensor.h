// A float32 array that training changes: a weight, or its gradient.
#pragma once

#include <stdint.h>

#include <memory>

namespace weft {

// Rows of `columns` elements, one after another; a vector is one row. The memory is the owner's: operations
// that add to a gradient write it without a lock, so runs that share one must take turns.
class Tensor {
 public:
  Tensor(float* data, int64_t rows, int64_t columns, std::shared_ptr<const void> owner)
      : data_(data), rows_(rows), columns_(columns), owner_(std::move(owner)) {}

  float* data() const { return data_; }
  float* row(int64_t index) const { return data_ + index * columns_; }
  int64_t rows() const { return rows_; }
  int64_t columns() const { return columns_; }
  int64_t size() const { return rows_ * columns_; }

 private:
  float* data_;
  int64_t rows_, columns_;
  std::shared_ptr<const void> owner_;
};

}  // namespace weft
