// Products with packed weights: equal to the bit to the serial loop, for every encoding and every way of
// cutting the work.
#include "check.h"
#include "matmul_problem.h"

using namespace weft;
using namespace weft::test;

namespace {

int64_t inputs_for(BlockKind kind, int64_t k) {
  const int64_t elements = block_elements(kind);
  return (k + elements - 1) / elements * elements;
}

void expect_bits(const Kernels& kernels, const Table<float>& got, const Table<float>& expected, const FileBytes& weights) {
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t n = 0; n < weights.n; ++n) {
      if (std::memcmp(&got.at(r, n), &expected.at(r, n), sizeof(float)) == 0) continue;
      return fail(kernels.isa, 0,
                  std::string(block_name(weights.kind)) + " rows " + std::to_string(got.rows) + " n " +
                      std::to_string(weights.n) + " k " + std::to_string(weights.k) + ": row " + std::to_string(r) +
                      ", output " + std::to_string(n) + ": " + std::to_string(got.at(r, n)) + " for " +
                      std::to_string(expected.at(r, n)));
    }
  }
}

void expect_product(const Kernels& kernels, const Table<float>& got, const Table<float>& x, const FileBytes& weights) {
  if (rounds_rows(kernels, weights.kind)) {
    // Rounding x to bfloat16 moves each product by 2^-8 of itself at most.
    for (int64_t n = 0; n < weights.n; ++n) {
      std::vector<float> values(static_cast<size_t>(weights.k));
      decode_row(weights.kind, weights.row(n), weights.k, values.data());
      for (int64_t r = 0; r < x.rows; ++r) {
        double sum = 0, size = 0;
        for (int64_t i = 0; i < weights.k; ++i) {
          sum += static_cast<double>(values[static_cast<size_t>(i)]) * x.at(r, i);
          size += std::fabs(static_cast<double>(values[static_cast<size_t>(i)]) * x.at(r, i));
        }
        CHECK(std::fabs(got.at(r, n) - sum) <= size * 0x1p-8);
      }
    }
    return;
  }
  expect_bits(kernels, got, reference_product(kernels, x, weights), weights);
}

// Groups of 32 inputs of very different sizes, some of them zeros.
void scale_groups(Table<float>& x) {
  constexpr float kSizes[] = {1.0f, 0.3f, 1e-3f, 0.0f, 40.0f, 0.5f, 0.06f};
  for (int64_t r = 0; r < x.rows; ++r)
    for (int64_t i = 0; i < x.columns; ++i) x.row(r)[i] *= kSizes[(r + i / 32 * 3) % 7];
}

void every_kind_and_number_of_rows() {
  for (const Kernels* kernels : available_kernels()) {
    for (const BlockKind kind : kAllKinds) {
      const FileBytes weights(kind, 70, inputs_for(kind, 288), 1);
      const std::shared_ptr<const Weight> packed = pack({&weights});
      Table<float> x = random_table(70, weights.k, 2, 3);
      scale_groups(x);
      expect_product(*kernels, run_linear(*kernels, x, packed), x, weights);
      const Table<float> all = run_linear(*kernels, x, packed);
      for (int64_t rows = 0; rows < 70; ++rows)
        CHECK(run_linear(*kernels, rows_of(x, 70 - rows, rows), packed) == rows_of(all, 70 - rows, rows));
    }
  }
}

void every_size_around_tiles() {
  for (const Kernels* kernels : available_kernels()) {
    for (const BlockKind kind : kAllKinds) {
      for (int64_t n = 1; n <= 65; n += n < 30 ? 7 : 1) {
        const FileBytes weights(kind, n, inputs_for(kind, 32), static_cast<uint32_t>(n));
        for (const int64_t rows : {1, 5, 20}) {
          const Table<float> x = random_table(rows, weights.k, 3, n % 2);
          expect_product(*kernels, run_linear(*kernels, x, pack({&weights})), x, weights);
        }
      }
    }
    for (const BlockKind kind : {BlockKind::kF32, BlockKind::kF16, BlockKind::kBF16}) {
      for (int64_t k = 1; k <= 70; ++k) {
        const FileBytes weights(kind, 33, k, static_cast<uint32_t>(k));
        for (const int64_t rows : {1, 7, 31}) {
          const Table<float> x = random_table(rows, k, 4, k % 3);
          expect_product(*kernels, run_linear(*kernels, x, pack({&weights})), x, weights);
        }
      }
    }
  }
}

void same_bits_over_threads_and_orders() {
  for (const Kernels* kernels : available_kernels()) {
    for (const BlockKind kind : kAllKinds) {
      const FileBytes weights(kind, 500, inputs_for(kind, 96), 5);
      const std::shared_ptr<const Weight> packed = pack({&weights});
      for (const int64_t rows : {1, 3, 9, 64, 65, 200}) {
        const Table<float> x = random_table(rows, weights.k, 6);
        const Table<float> expected = run_linear(*kernels, x, packed);
        for (const int threads : {1, 2, 3, 8}) {
          CHECK(run_linear(*kernels, x, packed, {threads, 0, true}) == expected);
          CHECK(run_linear(*kernels, x, packed, {threads, 17u + static_cast<uint32_t>(threads), false}) == expected);
        }
      }
    }
  }
}

// Weights with one scale for each output: inputs that end within a group, within a span of groups, after a chunk.
void one_scale_for_each_output() {
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t k : {1, 31, 96, 128, 161, 1600}) {
      for (const int64_t n : {1, 33, 70}) {
        const FileBytes weights(BlockKind::kF32, n, k, static_cast<uint32_t>(k + n));
        const std::shared_ptr<const Weight> packed = pack({&weights}, false, PanelKind::kInt8);
        for (const int64_t rows : {1, 5, 6, 7, 70, 200}) {
          const Table<float> x = random_table(rows, k, 6, n % 2);
          const Table<float> expected = reference_int8_product(*kernels, x, weights);
          for (const int threads : {1, 3})
            expect_bits(*kernels, run_linear(*kernels, x, packed, {threads, 5, threads == 1}), expected, weights);
        }
      }
    }
  }
}

// Parts of several kinds and odd sizes, one after another, give the columns that each gives alone.
void parts_are_joined() {
  for (const Kernels* kernels : available_kernels()) {
    const FileBytes a(BlockKind::kQ4_K, 40, 256, 1), b(BlockKind::kQ6_K, 33, 256, 2), c(BlockKind::kF16, 64, 256, 3),
        d(BlockKind::kF16, 5, 256, 4);
    const std::shared_ptr<const Weight> joined = pack({&a, &b, &c, &d});
    for (const int64_t rows : {1, 30, 100}) {
      const Table<float> x = random_table(rows, 256, 7);
      const Table<float> got = run_linear(*kernels, x, joined, {3, 0, true});
      int64_t first = 0;
      for (const FileBytes* part : {&a, &b, &c, &d}) {
        const Table<float> alone = run_linear(*kernels, x, pack({part}));
        for (int64_t r = 0; r < rows; ++r)
          CHECK(std::memcmp(got.row(r) + first, alone.row(r), static_cast<size_t>(part->n) * sizeof(float)) == 0);
        first += part->n;
      }
    }
  }
}

// Against the product of the dequantized weight in double precision, within the rounding of x: half a step of
// each group, at most max|x| / 254, times the size of its weights, and float32's own.
void close_to_the_dequantized_product() {
  for (const Kernels* kernels : available_kernels()) {
    for (const BlockKind kind : kAllKinds) {
      if (is_plain(kind)) continue;
      const FileBytes weights(kind, 64, 512, 8);
      const Table<float> x = random_table(3, 512, 9);
      const Table<float> got = run_linear(*kernels, x, pack({&weights}));
      for (int64_t n = 0; n < weights.n; ++n) {
        std::vector<float> values(512);
        decode_row(kind, weights.row(n), 512, values.data());
        for (int64_t r = 0; r < x.rows; ++r) {
          double sum = 0, bound = 0;
          for (int64_t first = 0; first < 512; first += 32) {
            double largest = 0, size = 0;
            for (int64_t i = first; i < first + 32; ++i) {
              sum += static_cast<double>(values[static_cast<size_t>(i)]) * x.at(r, i);
              largest = std::max(largest, std::fabs(static_cast<double>(x.at(r, i))));
              size += std::fabs(static_cast<double>(values[static_cast<size_t>(i)]));
            }
            bound += size * largest * (1.0 / 254 + 64 * 0x1p-24);
          }
          CHECK(std::fabs(got.at(r, n) - sum) <= bound);
        }
      }
    }
  }
}

void extreme_rows() {
  for (const Kernels* kernels : available_kernels()) {
    const FileBytes weights(BlockKind::kQ4_1, 32, 64, 10), wide(BlockKind::kQ8_0, 32, 64, 11);
    for (const FileBytes* part : {&weights, &wide}) {
      for (const float value : {0.0f, 1e-38f, 1e-42f, 1e-25f, 3e38f, -3e30f}) {
        Table<float> x(9, 64, 0, value);
        expect_product(*kernels, run_linear(*kernels, x, pack({part})), x, *part);
      }
      for (const float value : {NAN, INFINITY, -INFINITY}) {
        Table<float> x = random_table(9, 64, 12);
        x.at(4, 40) = value;
        const Table<float> out = run_linear(*kernels, x, pack({part}));
        for (int64_t n = 0; n < 32; ++n) CHECK(!std::isfinite(out.at(4, n)) && std::isfinite(out.at(3, n)));
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  return run(argc, argv,
             {{"every_kind_and_number_of_rows", every_kind_and_number_of_rows},
              {"every_size_around_tiles", every_size_around_tiles},
              {"same_bits_over_threads_and_orders", same_bits_over_threads_and_orders},
              {"one_scale_for_each_output", one_scale_for_each_output},
              {"parts_are_joined", parts_are_joined},
              {"close_to_the_dequantized_product", close_to_the_dequantized_product},
              {"extreme_rows", extreme_rows}});
}
