// Attention within sequences against double precision, and its bits over threads and neighbours.
#include "sequence_attention_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

const std::vector<int64_t> kLengths = {1, 2, 5, 48, 49, 64, 65, 100, 127, 130, 256, 300};

std::vector<SequenceShape> shapes() {
  std::vector<SequenceShape> list;
  for (const int64_t head_dim : {1, 8, 20, 32, 40, 64, 80, 96, 128}) list.push_back({2, 3, head_dim});
  for (const int64_t group : {1, 2, 4, 7}) list.push_back({1, group, 64});
  for (const int64_t window : {1, 5, 31, 64, 65, 100, 200}) list.push_back({1, 2, 32, window});
  return affordable(list);
}

bool same(const SequenceProblem::Results& a, const SequenceProblem::Results& b) {
  return a.out == b.out && a.log_sum_exp == b.log_sum_exp && a.d_q == b.d_q && a.d_k == b.d_k && a.d_v == b.d_v;
}

void matches_double_precision() {
  const auto check = [](SequenceProblem problem) {
    for (const bool rounds_to_bf16 : {false, true}) {
      problem.rounds_to_bf16 = rounds_to_bf16;
      std::vector<SequenceProblem::Results> all;
      for (const Kernels* kernels : available_kernels()) all.push_back(problem.run(*kernels));
      problem.check(all);
    }
  };
  for (const SequenceShape& shape : shapes()) check({shape, kLengths, 5});
  check({{1, 2, 16}, {1100}, 6});
  check({{1, 2, 16, 300}, {1100}, 6});
}

void same_bits_over_threads() {
  for (const Kernels* kernels : available_kernels()) {
    for (const SequenceShape& shape : {SequenceShape{3, 3, 64}, {2, 1, 40, 70}}) {
      for (const std::vector<int64_t>& lengths : {kLengths, std::vector<int64_t>{700}, {256, 256, 256}}) {
        SequenceProblem problem(shape, lengths, 8);
        for (const bool rounds_to_bf16 : {false, true}) {
          problem.rounds_to_bf16 = rounds_to_bf16;
          const SequenceProblem::Results expected = problem.run(*kernels);
          for (const int threads : {1, 2, 3, 8}) {
            CHECK(same(problem.run(*kernels, {threads, 11}), expected));
            CHECK(same(problem.run(*kernels, {threads, 0, true}), expected));
          }
        }
      }
    }
  }
}

// A sequence's results are the same bits alone and among others.
void same_bits_alone_and_together(const Kernels* kernels, bool rounds_to_bf16) {
  SequenceProblem together({2, 3, 64}, {70, 290, 31}, 9);
  SequenceProblem alone({2, 3, 64}, {290}, 1);
  together.rounds_to_bf16 = alone.rounds_to_bf16 = rounds_to_bf16;
  const SequenceProblem::Results expected = together.run(*kernels);
  const auto copy = [](const Table<float>& from, Table<float>& to) {
    for (int64_t r = 0; r < to.rows; ++r) std::copy_n(from.row(70 + r), to.columns, to.row(r));
  };
  copy(together.q, alone.q);
  copy(together.k, alone.k);
  copy(together.v, alone.v);
  copy(together.d_out, alone.d_out);
  SequenceProblem::Results part = alone.empty();
  copy(expected.out, part.out);
  copy(expected.log_sum_exp, part.log_sum_exp);
  copy(expected.d_q, part.d_q);
  copy(expected.d_k, part.d_k);
  copy(expected.d_v, part.d_v);
  CHECK(same(alone.run(*kernels), part));
}

void same_bits_alone_and_together() {
  for (const Kernels* kernels : available_kernels())
    for (const bool rounds_to_bf16 : {false, true}) same_bits_alone_and_together(kernels, rounds_to_bf16);
}

void nan_stays_in_its_sequence() {
  for (const Kernels* kernels : available_kernels()) {
    SequenceProblem problem({1, 2, 32}, {90, 70}, 10);
    const SequenceProblem::Results expected = problem.run(*kernels);
    problem.q.at(20, 3) = NAN;
    const SequenceProblem::Results got = problem.run(*kernels);
    CHECK(std::isnan(got.out.at(20, 0)));
    CHECK(std::isnan(got.d_k.at(0, 0)));
    for (int64_t row = 0; row < 160; ++row)
      if (row != 20) CHECK(std::memcmp(got.out.row(row), expected.out.row(row), 64 * sizeof(float)) == 0);
    for (int64_t row = 90; row < 160; ++row)
      CHECK(std::memcmp(got.d_k.row(row), expected.d_k.row(row), 32 * sizeof(float)) == 0);
  }
}

void wrong_inputs_are_refused() {
  const Kernels& kernels = *available_kernels().front();
  for (const auto& [row, column, value] : {std::array<int32_t, 3>{0, 0, 1}, {0, 1, 0}, {1, 1, 71}, {1, 0, 89}, {1, 1, -1}}) {
    SequenceProblem problem({1, 2, 32}, {90, 70}, 10);
    problem.sequences.at(row, column) = value;
    SequenceProblem::Results results = problem.empty();
    CHECK_ERROR(kValue, problem.forward(results).run(kernels));
    CHECK_ERROR(kValue, problem.backward(results).run(kernels));
  }
  SequenceProblem problem({2, 2, 32}, {9}, 10);
  problem.shape.group = 3;
  SequenceProblem::Results results = problem.empty();
  CHECK_ERROR(kPlan, problem.forward(results).run(kernels));
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"matches_double_precision", matches_double_precision},
                          {"same_bits_over_threads", same_bits_over_threads},
                          {"same_bits_alone_and_together", same_bits_alone_and_together},
                          {"nan_stays_in_its_sequence", nan_stays_in_its_sequence},
                          {"wrong_inputs_are_refused", wrong_inputs_are_refused}});
}
