// Products of training: equal to the bit to the serial chain, for every way of storing, packing and cutting.
#include "gemm_problem.h"
#include "matmul_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

struct Problem {
  GemmSizes sizes;
  bool a_transposed, b_transposed;
  bool has_bias = false, has_addend = false;
  bool bf16 = false;
  int64_t gap = 0;
};

// The serial loop, in the steps that the instruction set takes.
float chain(const Kernels& kernels, GemmForm form, const StoredOperand& a, const StoredOperand& b, int64_t row,
            int64_t column, int64_t inputs) {
  float sum = 0.0f;
  for (int64_t k = 0; k < inputs; ++k) {
    const float x = rounded(form, a.at(row, k)), y = rounded(form, b.at(column, k));
    if (is_fused(kernels)) {
      sum = std::fmaf(x, y, sum);
    } else {
      const float product = x * y;
      sum = sum + product;
    }
  }
  return sum;
}

void check_element(const Kernels& kernels, GemmForm form, float got, float expected, double size, const char* what) {
  // The bfloat16 dot instruction rounds in an order of its own, and flushes the smallest numbers.
  const double error = std::fabs(static_cast<double>(got) - expected);
  if (form == GemmForm::kBF16Pairs ? error <= size * 0x1p-16 : std::memcmp(&got, &expected, 4) == 0) return;
  fail(kernels.isa, 0, std::string(what) + ": expected " + std::to_string(expected) + ", got " + std::to_string(got));
}

Table<float> run(const Kernels& kernels, const Problem& problem, const StoredOperand& a, const StoredOperand& b,
                 const std::vector<float>& bias, const Table<float>& addend, int threads, Packing packing) {
  Table<float> out(problem.sizes.rows, problem.sizes.columns, 3, NAN);
  if (problem.has_addend) out = addend;
  GemmProduct product = {problem.bf16 ? kernels.gemm->bf16_form : GemmForm::kF32, problem.sizes, a.operand(), b.operand()};
  product.bias = problem.has_bias ? bias.data() : nullptr;
  product.addend = problem.has_addend ? out.row(0) : nullptr;
  product.addend_stride = out.stride;
  product.out = out.row(0);
  product.out_stride = out.stride;
  PreparedProduct prepared(kernels, product, threads, packing);
  Pool pool(threads, 1);
  pool.run(prepared);
  return out;
}

void check(const Kernels& kernels, const Problem& problem) {
  const GemmSizes& sizes = problem.sizes;
  const GemmForm form = problem.bf16 ? kernels.gemm->bf16_form : GemmForm::kF32;
  const StoredOperand a(sizes.rows, sizes.inputs, problem.a_transposed, 1, problem.gap);
  const StoredOperand b(sizes.columns, sizes.inputs, problem.b_transposed, 2, problem.gap);
  const Table<float> addend = random_matrix(sizes.rows, sizes.columns, 3, 3);
  const Table<float> biases = random_matrix(1, sizes.columns, 4);
  const std::vector<float> bias(biases.row(0), biases.row(0) + sizes.columns);
  const Table<float> got = run(kernels, problem, a, b, bias, addend, 1, Packing::kBoth);
  const int64_t step = std::max<int64_t>(1, sizes.rows * sizes.columns / 4000);
  for (int64_t i = 0; i < sizes.rows * sizes.columns; i += step) {
    const int64_t row = i / sizes.columns, column = i % sizes.columns;
    float expected = chain(kernels, form, a, b, row, column, sizes.inputs);
    if (problem.has_bias) expected = expected + bias[static_cast<size_t>(column)];
    if (problem.has_addend) expected = expected + addend.at(row, column);
    const std::string what = std::to_string(sizes.rows) + " x " + std::to_string(sizes.columns) + " x " +
                             std::to_string(sizes.inputs) + " at " + std::to_string(row) + ", " + std::to_string(column);
    check_element(kernels, form, got.at(row, column), expected, static_cast<double>(sizes.inputs), what.c_str());
  }
  for (const Packing packing : {Packing::kBoth, Packing::kOnlyA, Packing::kOnlyB})
    for (const int threads : {1, 2, 3, 8})
      CHECK(run(kernels, problem, a, b, bias, addend, threads, packing) == got);
}

void small_and_odd_sizes() {
  for (const Kernels* kernels : available_kernels()) {
    uint32_t number = 0;
    for (const int64_t rows : {1, 5, 6, 7, 13, 33})
      for (const int64_t columns : {1, 8, 15, 16, 17, 33, 70})
        for (const int64_t inputs : {1, 2, 7, 8, 9, 40}) {
          Problem problem = {{rows, columns, inputs}, number % 2 == 1, number % 4 >= 2};
          problem.has_bias = number % 3 == 1;
          problem.has_addend = number % 5 < 2;
          problem.bf16 = number % 7 < 3;
          problem.gap = number % 3;
          check(*kernels, problem);
          number += 1;
        }
  }
}

void several_blocks_and_tiles() {
  for (const Kernels* kernels : available_kernels()) {
    for (const bool bf16 : {false, true}) {
      check(*kernels, {{300, 130, 700}, false, false, true, true, bf16});
      check(*kernels, {{250, 215, 321}, false, true, false, true, bf16, 5});
      check(*kernels, {{401, 97, 641}, true, true, false, true, bf16, 1});
      check(*kernels, {{16, 512, 330}, true, false, true, false, bf16});
    }
  }
}

void no_rows() {
  for (const Kernels* kernels : available_kernels()) check(*kernels, {{0, 20, 30}, false, false});
}

// A packed weight, forward and for the gradient of its inputs, equals its values as float32.
void packed_weights(const Kernels& kernels, const std::shared_ptr<const Weight>& weight, bool bf16) {
  const int64_t n = weight->n(), k = weight->k();
  Table<float> values(n, k);
  for (int64_t row = 0; row < n; ++row) weight->dequantize_row(row, values.row(row));
  for (const bool is_transposed : {false, true}) {
    const GemmSizes sizes = is_transposed ? GemmSizes{37, k, n} : GemmSizes{37, n, k};
    const StoredOperand a(sizes.rows, sizes.inputs, false, 5);
    Table<float> expected(sizes.rows, sizes.columns), got(sizes.rows, sizes.columns);
    GemmProduct product = {bf16 ? kernels.gemm->bf16_form : GemmForm::kF32, sizes, a.operand(),
                           is_transposed ? GemmOperand::by_input(values.row(0), values.stride)
                                         : GemmOperand::by_row(values.row(0), values.stride)};
    product.out_stride = sizes.columns;
    Pool pool(2, 1);
    product.out = expected.row(0);
    PreparedProduct plain(kernels, product, 2, Packing::kBoth);
    pool.run(plain);
    product.b = GemmOperand::packed(*weight, is_transposed);
    product.out = got.row(0);
    for (const Packing packing : {Packing::kBoth, Packing::kOnlyA}) {
      PreparedProduct packed(kernels, product, 2, packing);
      pool.run(packed);
      CHECK(got == expected);
    }
  }
}

void every_kind_of_packed_weight() {
  for (const Kernels* kernels : available_kernels()) {
    for (const BlockKind kind : kAllKinds) {
      const int64_t inputs = (330 + block_elements(kind) - 1) / block_elements(kind) * block_elements(kind);
      const FileBytes first(kind, 70, inputs, 1), second(BlockKind::kQ8_0, 45, inputs / 32 * 32, 2);
      for (const bool bf16 : {false, true}) {
        packed_weights(*kernels, pack({&first}), bf16);
        if (second.k == first.k) packed_weights(*kernels, pack({&first, &second}), bf16);
        packed_weights(*kernels, pack({&first, &first}, true), bf16);
        packed_weights(*kernels, pack({&first, &first}, true, PanelKind::kInt8), bf16);
      }
    }
  }
}

void column_sums() {
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t columns : {1, 7, 8, 40, 41}) {
      const Table<float> x = random_matrix(50, columns, 6, 2);
      Table<float> sums = random_matrix(1, columns, 7), expected = sums;
      kernels->gemm->add_column_sums(x.row(0), x.stride, x.rows, columns, sums.row(0));
      for (int64_t c = 0; c < columns; ++c) {
        float sum = 0;
        for (int64_t r = 0; r < x.rows; ++r) sum += x.at(r, c);
        expected.at(0, c) += sum;
      }
      CHECK(sums == expected);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run(argc, argv,
             {{"small and odd sizes", small_and_odd_sizes},
              {"several blocks and tiles", several_blocks_and_tiles},
              {"no rows", no_rows},
              {"every kind of packed weight", every_kind_of_packed_weight},
              {"column sums", column_sums}});
}
