#include "ops/sequences.h"

#include "ops/checks.h"

namespace weft {

void expect_sequences(const Matrix& sequences, int64_t rows, const std::string& op) {
  int64_t next = 0;
  for (int64_t index = 0; index < sequences.rows; ++index) {
    const SequenceRange range = sequence_range(sequences, index);
    if (range.first_row != next || range.num_rows < 1) {
      throw Error(ErrorKind::kValue, "sequence " + std::to_string(index) + " of " + op +
                                         " expects at least one row from row " + std::to_string(next) + " on, got " +
                                         std::to_string(range.num_rows) + " from " + std::to_string(range.first_row) +
                                         "; list sequences in the order of their rows");
    }
    next += range.num_rows;
  }
  expect_rows(next, rows, op + "'s sequences");
}

int64_t sequence_of_row(const Matrix& sequences, int64_t row) {
  int64_t low = 0, high = sequences.rows;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (sequence_range(sequences, middle).first_row <= row ? low : high) = middle;
  }
  return low;
}

}  // namespace weft
