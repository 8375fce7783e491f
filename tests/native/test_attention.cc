// Attention over a paged cache against double precision, and its bits over every way of cutting the work.
#include <cmath>
#include <memory>

#include "attention_problem.h"
#include "check.h"

using namespace weft;
using namespace weft::test;

namespace {

const std::vector<Sequence> kMixed = {{0, 1}, {30, 1}, {31, 1}, {32, 1}, {0, 33}, {17, 40}, {100, 1}, {5, 2}, {63, 3}};
const std::vector<Sequence> kLong = {{1500, 1}, {511, 1}, {512, 1}, {490, 40}, {1023, 2}, {0, 5}};

std::vector<Shape> shapes() {
  std::vector<Shape> list;
  for (const int64_t head_dim : {8, 20, 40, 64, 80, 128}) {
    list.push_back({2, 3, head_dim});
    list.push_back({2, 3, head_dim, 0, DType::kF32});
    list.push_back({2, 3, head_dim, 0, DType::kBF16});
  }
  list.push_back({2, 3, 13, 0, DType::kBF16});
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (const int64_t group : {1, 2, 4, 5, 7, 8, 13}) list.push_back({1, group, 64, 0, dtype});
    for (const int64_t window : {1, 31, 32, 33, 100, 600}) list.push_back({2, 2, 32, window, dtype});
  }
  return affordable(list);
}

void matches_double_precision() {
  for (const Shape& shape : shapes()) {
    for (const std::vector<Sequence>& sequences : {kMixed, kLong}) {
      const Problem problem(shape, sequences, 5);
      std::vector<Table<float>> outs, rounded;
      for (const Kernels* kernels : available_kernels())
        (problem.rounds(*kernels) ? rounded : outs).push_back(problem.run(*kernels));
      problem.check(outs, false);
      problem.check(rounded, true);
    }
  }
}

void same_bits_alone_and_together() {
  for (const Kernels* kernels : available_kernels()) {
    for (const Shape& shape : shapes()) {
      for (const std::vector<Sequence>& sequences : {kMixed, kLong}) {
        const Problem problem(shape, sequences, 6);
        const Table<float> together = problem.run(*kernels);
        for (size_t index = 0; index < sequences.size(); ++index) {
          for (int64_t row = 0; row < sequences[index].num_rows; row += 1 + row / 4) {
            const Table<float> alone = problem.run_row(*kernels, index, row);
            const float* expected = together.row(problem.sequence_rows.at(index, 0) + row);
            CHECK(std::memcmp(alone.row(0), expected, problem.width() * sizeof(float)) == 0);
          }
        }
      }
    }
  }
}

// A prompt in chunks: the rows are the same sequence's, given as several.
void same_bits_over_chunks() {
  for (const Kernels* kernels : available_kernels()) {
    for (const Shape& shape : {Shape{2, 3, 40}, {2, 3, 40, 70}, {2, 3, 40, 0, DType::kBF16}, {2, 3, 40, 70, DType::kBF16}}) {
      const Problem whole(shape, {{3, 600}}, 7);
      const Table<float> expected = whole.run(*kernels);
      for (const int64_t chunk : {1, 7, 32, 100, 599}) {
        Table<int32_t> rows((600 + chunk - 1) / chunk, 4);
        for (int64_t i = 0; i < rows.rows; ++i) {
          rows.at(i, 0) = static_cast<int32_t>(i * chunk);
          rows.at(i, 1) = static_cast<int32_t>(std::min(chunk, 600 - i * chunk));
          rows.at(i, 2) = static_cast<int32_t>(3 + i * chunk);
        }
        CHECK(whole.run_part(*kernels, {}, whole.q, rows) == expected);
      }
    }
  }
}

void same_bits_over_threads_and_orders() {
  for (const Kernels* kernels : available_kernels()) {
    for (const Shape& shape : {Shape{2, 3, 64}, {3, 1, 40, 0, DType::kF32}, {1, 8, 128, 700}, {2, 3, 64, 0, DType::kBF16},
                               {1, 8, 128, 700, DType::kBF16}}) {
      for (const std::vector<Sequence>& sequences :
           {kMixed, kLong, {{4000, 1}}, {{3000, 4}}, {{0, 512}}, {{40, 1}, {5000, 1}, {10, 1}}}) {
        const Problem problem(shape, sequences, 8);
        const Table<float> expected = problem.run(*kernels);
        for (const int threads : {1, 2, 3, 8, 64}) {
          CHECK(problem.run(*kernels, {threads, 11}) == expected);
          CHECK(problem.run(*kernels, {threads, 12}) == expected);
          if (threads <= 8) CHECK(problem.run(*kernels, {threads, 0, true}) == expected);
        }
      }
    }
  }
}

// What lies beyond a row's last token, or before its window, has no influence, however large.
void unseen_tokens_do_not_matter() {
  for (const Kernels* kernels : available_kernels()) {
    for (const DType dtype : {DType::kF16, DType::kBF16, DType::kF32}) {
      const Problem problem({1, 3, 40, 50, dtype}, {{99, 20}, {700, 1}}, 9);
      const Table<float> expected = problem.run(*kernels);
      const auto write = [&](size_t index, int64_t token) {
        Table<float> k(1, 40), v(1, 40);
        for (int64_t d = 0; d < 40; ++d) k.at(0, d) = v.at(0, d) = (d % 2 ? 1e38f : -1e38f);
        Table<int32_t> slot(1, 1);
        slot.at(0, 0) = problem.table.at(problem.sequence_rows.at(index, 3) + token / 32, 0) * 32 + token % 32;
        OpRunner("kv_write").number("layer", 1).number("kv_heads", 1).number("head_dim", 40).cache(problem.cache)
            .in("k", k).in("v", v).in("slots", slot).run(*kernels);
      };
      for (int64_t token = 119; token < 128; ++token) write(0, token);
      for (int64_t token = 0; token < 50; ++token) write(0, token);
      for (int64_t token = 701; token < 704; ++token) write(1, token);
      for (int64_t token = 0; token <= 650; ++token) write(1, token);
      CHECK(problem.run(*kernels) == expected);
    }
  }
}

void nan_stays_in_its_row() {
  for (const Kernels* kernels : available_kernels()) {
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      Problem problem({2, 2, 32, 0, dtype}, {{40, 9}, {3, 1}}, 10);
      const Table<float> expected = problem.run(*kernels);
      problem.q.at(4, 0) = NAN;
      const Table<float> got = problem.run(*kernels);
      CHECK(std::isnan(got.at(4, 0)));
      for (int64_t row = 0; row < 10; ++row)
        if (row != 4) CHECK(std::memcmp(got.row(row), expected.row(row), problem.width() * sizeof(float)) == 0);
    }
  }
}

void wrong_inputs_are_refused() {
  const Kernels& kernels = *available_kernels().front();
  const Problem good({2, 2, 32}, {{40, 9}, {3, 1}}, 10);
  struct Change {
    int64_t row, column;
    int32_t value;
  };
  for (const Change& change : {Change{0, 0, 1}, {0, 1, 0}, {0, 1, 8}, {1, 1, 2}, {0, 2, -1}, {0, 2, 400}, {1, 3, 3},
                               {1, 3, -1}, {0, 1, INT32_MAX}, {1, 2, INT32_MAX}, {1, 0, -5}}) {
    Problem problem = good;
    problem.sequence_rows.at(change.row, change.column) = change.value;
    CHECK_ERROR(kValue, problem.run(kernels));
  }
  for (const int32_t block : {-1, 1 << 20, 5}) {
    Problem problem = good;
    problem.table.at(0, 0) = block;
    CHECK_ERROR(kValue, problem.run(kernels));
  }
  Problem problem = good;
  problem.shape.group = 3;
  CHECK_ERROR(kPlan, problem.run(kernels));
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"matches_double_precision", matches_double_precision},
                          {"same_bits_alone_and_together", same_bits_alone_and_together},
                          {"same_bits_over_chunks", same_bits_over_chunks},
                          {"same_bits_over_threads_and_orders", same_bits_over_threads_and_orders},
                          {"unseen_tokens_do_not_matter", unseen_tokens_do_not_matter},
                          {"nan_stays_in_its_row", nan_stays_in_its_row},
                          {"wrong_inputs_are_refused", wrong_inputs_are_refused}});
}
