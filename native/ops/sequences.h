// The operand `sequences`, i32[sequences, 2]: which rows belong together.
#pragma once

#include <string>

#include "ops/op.h"

namespace weft {

struct SequenceRange {
  int64_t first_row;
  int64_t num_rows;
};

inline SequenceRange sequence_range(const Matrix& sequences, int64_t index) {
  const int32_t* columns = sequences.i32_row(index);
  return {columns[0], columns[1]};
}

// Throws Error(kValue) unless the sequences, each of at least one row, follow each other from row 0 to `rows`.
void expect_sequences(const Matrix& sequences, int64_t rows, const std::string& op);

// The sequence that holds `row`; the sequences must have been checked.
int64_t sequence_of_row(const Matrix& sequences, int64_t row);

}  // namespace weft
