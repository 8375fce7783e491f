// Row kernels and their operations against double precision.
#include <cmath>
#include <functional>

#include "check.h"
#include "memory/kv_cache.h"
#include "op_runner.h"

using namespace weft;
using namespace weft::test;

namespace {

std::vector<float> random_values(int64_t count, uint32_t seed, float scale = 2.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

template <typename T>
void fill_random(Table<T>& table, uint32_t seed, float scale = 2.0f) {
  const std::vector<float> values = random_values(table.memory.size(), seed, scale);
  std::copy(values.begin(), values.end(), table.memory.begin());
}

// |got - expected| <= units of float32 rounding at `size`.
void check_close(const char* what, int64_t columns, int64_t i, float got, double expected, double size, double units) {
  const double tolerance = units * 5.97e-8 * std::max(size, std::abs(expected)) + 1e-37;
  if (std::abs(got - expected) <= tolerance) return;
  std::ostringstream text;
  text << what << " of " << columns << " columns, element " << i << ": expected " << expected << ", got " << got;
  fail(__FILE__, __LINE__, text.str());
}

// Calls body(kernels, columns, offset) for each instruction set, 0 or 1 to 67 columns, and misalignments.
void for_each_shape(int64_t least, const std::function<void(const RowKernels&, int64_t, int64_t)>& body) {
  for (const Kernels* kernels : available_kernels())
    for (int64_t columns = least; columns <= 67; ++columns)
      for (int64_t offset = 0; offset < 3; ++offset) body(*kernels->rows, columns, offset);
}

void rms_norm_matches() {
  for_each_shape(1, [](const RowKernels& rows, int64_t n, int64_t offset) {
    const std::vector<float> x = random_values(n + offset, n), weight = random_values(n + offset, n + 1);
    std::vector<float> out(n + offset + 1, 7.0f);
    rows.rms_norm(x.data() + offset, weight.data() + offset, out.data() + offset, n, 1e-5f);
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += double(x[offset + i]) * x[offset + i];
    const double scale = 1 / std::sqrt(squares / n + 1e-5);
    for (int64_t i = 0; i < n; ++i)
      check_close("rms_norm", n, i, out[offset + i], x[offset + i] * scale * weight[offset + i], 0, 8);
    CHECK_EQUAL(out[n + offset], 7.0f);
  });
}

void layer_norm_matches() {
  for_each_shape(1, [](const RowKernels& rows, int64_t n, int64_t offset) {
    std::vector<float> x = random_values(n + offset, n);
    for (float& value : x) value += 30.0f;  // far from 0: the variance must not cancel
    const std::vector<float> weight = random_values(n + offset, n + 1), bias = random_values(n + offset, n + 2);
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < n; ++i) mean += x[offset + i] / n;
    for (int64_t i = 0; i < n; ++i) variance += (x[offset + i] - mean) * (x[offset + i] - mean) / n;
    const double scale = 1 / std::sqrt(variance + 1e-5);
    for (const bool has_bias : {false, true}) {
      std::vector<float> out(n + offset + 1, 7.0f);
      rows.layer_norm(x.data() + offset, weight.data() + offset, has_bias ? bias.data() + offset : nullptr,
                      out.data() + offset, n, 1e-5f);
      for (int64_t i = 0; i < n; ++i) {
        const double normal = (x[offset + i] - mean) * scale;
        const double expected = normal * weight[offset + i] + (has_bias ? bias[offset + i] : 0.0f);
        check_close("layer_norm", n, i, out[offset + i], expected, std::abs(weight[offset + i]) * 30 * scale, 8);
      }
      CHECK_EQUAL(out[n + offset], 7.0f);
    }
  });
}

void add_matches() {
  for_each_shape(0, [](const RowKernels& rows, int64_t n, int64_t offset) {
    const std::vector<float> a = random_values(n + offset, n), b = random_values(n + offset, n + 1);
    std::vector<float> out(n + offset + 1, 7.0f);
    rows.add(a.data() + offset, b.data() + offset, out.data() + offset, n);
    for (int64_t i = 0; i < n; ++i) CHECK_EQUAL(out[offset + i], a[offset + i] + b[offset + i]);
    CHECK_EQUAL(out[n + offset], 7.0f);
  });
}

void silu_gate_matches() {
  for_each_shape(0, [](const RowKernels& rows, int64_t n, int64_t offset) {
    const std::vector<float> x = random_values(2 * n + offset, n, 8.0f);
    std::vector<float> out(n + offset + 1, 7.0f);
    rows.silu_gate(x.data() + offset, out.data() + offset, n);
    for (int64_t i = 0; i < n; ++i) {
      const double gate = x[offset + i];
      check_close("silu_gate", n, i, out[offset + i], gate / (1 + std::exp(-gate)) * x[offset + n + i], 0, 12);
    }
    CHECK_EQUAL(out[n + offset], 7.0f);
  });
}

void gelu_matches() {
  for_each_shape(0, [](const RowKernels& rows, int64_t n, int64_t offset) {
    const std::vector<float> x = random_values(n + offset, n, 3.0f);
    std::vector<float> exact(n + offset + 1, 7.0f), by_tanh(n + offset + 1, 7.0f);
    rows.gelu_erf(x.data() + offset, exact.data() + offset, n);
    rows.gelu_tanh(x.data() + offset, by_tanh.data() + offset, n);
    for (int64_t i = 0; i < n; ++i) {
      const double v = x[offset + i];
      check_close("gelu", n, i, exact[offset + i], 0.5 * v * (1 + std::erf(v * std::sqrt(0.5))), 2.0, 2);
      const double inner = std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v);
      check_close("gelu tanh", n, i, by_tanh[offset + i], 0.5 * v * (1 + std::tanh(inner)), std::abs(v), 8);
    }
    CHECK_EQUAL(exact[n + offset], 7.0f);
    CHECK_EQUAL(by_tanh[n + offset], 7.0f);
  });
}

// Far out, and where nothing must be hidden.
void activations_at_the_edges() {
  for (const Kernels* kernels : available_kernels()) {
    const float x[6] = {-1e30f, -100.0f, 0.0f, 100.0f, 1e30f, NAN};
    float out[6];
    for (const auto gelu : {kernels->rows->gelu_erf, kernels->rows->gelu_tanh}) {
      gelu(x, out, 6);
      for (int i = 0; i < 3; ++i) CHECK_EQUAL(out[i] == 0.0f, true);
      CHECK_EQUAL(out[3], 100.0f);
      CHECK_EQUAL(out[4], 1e30f);
      CHECK(std::isnan(out[5]));
    }
    const float gate[6] = {NAN, -200.0f, 200.0f, 1.0f, 1.0f, 3.0f};
    kernels->rows->silu_gate(gate, out, 3);
    CHECK(std::isnan(out[0]));
    CHECK(std::abs(out[1]) < 1e-30f);
    CHECK_EQUAL(out[2], 600.0f);
  }
}

struct RotaryCase {
  int64_t heads, head_dim, rotary_dim;
  double attention_scale;
};

void check_rotary(const Kernels& kernels, const RotaryCase& shape, const std::vector<int32_t>& at, bool in_place) {
  const int64_t rows = static_cast<int64_t>(at.size()), half = shape.rotary_dim / 2;
  Table<float> x(rows, shape.heads * shape.head_dim, 5), out(rows, shape.heads * shape.head_dim, 3);
  fill_random(x, 17);
  const Table<float> before = x;
  Table<int32_t> positions(rows, 1);
  std::copy(at.begin(), at.end(), positions.memory.begin());
  std::vector<float> inv_freq(half);
  for (int64_t i = 0; i < half; ++i) inv_freq[i] = static_cast<float>(std::pow(10000.0, -double(i) / half));
  OpRunner runner("rotary");
  runner.number("heads", shape.heads).number("head_dim", shape.head_dim).number("rotary_dim", shape.rotary_dim);
  runner.number("attention_scale", shape.attention_scale).vector("inv_freq", inv_freq);
  Table<float>& result = in_place ? x : out;
  runner.in("x", x).in("positions", positions).out("out", result).run(kernels);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < x.columns; ++c) {
      const int64_t d = c % shape.head_dim, head = c - d, i = d % half;
      double expected = before.at(r, c);
      if (d < shape.rotary_dim) {
        const double angle = double(at[r]) * inv_freq[i], a = before.at(r, head + i), b = before.at(r, head + half + i);
        const double cosine = std::cos(angle) * shape.attention_scale, sine = std::sin(angle) * shape.attention_scale;
        expected = d < half ? a * cosine - b * sine : b * cosine + a * sine;
      }
      check_close("rotary", x.columns, c, result.at(r, c), expected, 8.0, 3);
    }
  }
}

void rotary_matches() {
  for (const Kernels* kernels : available_kernels()) {
    for (const RotaryCase& shape : {RotaryCase{3, 64, 64, 1.0}, {2, 40, 20, 1.0}, {1, 6, 2, 1.25}, {2, 80, 80, 0.5}})
      for (const bool in_place : {false, true})
        check_rotary(*kernels, shape, {0, 1, 2, 31, 777, 4095, 131071, 1000000}, in_place);
  }
}

void norms_by_head_and_stride() {
  for (const Kernels* kernels : available_kernels()) {
    Table<float> x(7, 24, 9), out(7, 24, 2, 5.0f);
    fill_random(x, 3);
    std::vector<float> weight = random_values(8, 4);
    OpRunner("rms_norm").number("eps", 1e-6).number("heads", 3).vector("weight", weight).in("x", x).out("out", out)
        .run(*kernels, {3, 5});
    for (int64_t r = 0; r < 7; ++r) {
      for (int64_t h = 0; h < 3; ++h) {
        float expected[8];
        kernels->rows->rms_norm(x.row(r) + 8 * h, weight.data(), expected, 8, 1e-6f);
        CHECK(std::memcmp(expected, out.row(r) + 8 * h, sizeof(expected)) == 0);
      }
      CHECK_EQUAL(out.row(r)[24], 5.0f);
    }
  }
}

void gather_rows_copies() {
  const Kernels& kernels = *available_kernels().back();
  Table<float> x(9, 11, 2), out(40, 11, 1);
  fill_random(x, 1);
  Table<int32_t> rows(40, 1);
  for (int64_t i = 0; i < 40; ++i) rows.at(i, 0) = static_cast<int32_t>(i * 7 % 9);
  OpRunner("gather_rows").in("x", x).in("rows", rows).out("out", out).run(kernels, {4, 9});
  for (int64_t i = 0; i < 40; ++i) CHECK(std::memcmp(out.row(i), x.row(i * 7 % 9), 11 * sizeof(float)) == 0);
  rows.at(39, 0) = 9;
  CHECK_ERROR(kValue, OpRunner("gather_rows").in("x", x).in("rows", rows).out("out", out).run(kernels));
  rows.at(39, 0) = -1;
  CHECK_ERROR(kValue, OpRunner("gather_rows").in("x", x).in("rows", rows).out("out", out).run(kernels));
}

// Conversion to f16 as the processor does it, also in the portable kernels; limits and NaN.
void kv_write_stores() {
  const float odd[] = {1e9f, -1e9f, 65504.0f, 65520.0f, 1e-8f, 6e-8f, -3.1e-5f, 0.1f, -0.0f, NAN, INFINITY, 2049.0f};
  std::vector<uint16_t> first_keys;
  for (const Kernels* kernels : available_kernels()) {
    const int64_t head_dim = 20, rows = 5;
    const auto cache = std::make_shared<KvCache>(2, 3, head_dim, 4, DType::kF16);
    Table<float> k(rows, 3 * head_dim, 7), v(rows, 3 * head_dim, 1);
    fill_random(k, 21);
    fill_random(v, 22);
    std::copy(std::begin(odd), std::end(odd), k.row(2));
    Table<int32_t> slots(rows, 1);
    for (int64_t r = 0; r < rows; ++r) slots.at(r, 0) = static_cast<int32_t>(r * 29 + 3);
    OpRunner runner("kv_write");
    runner.number("layer", 1).number("kv_heads", 3).number("head_dim", head_dim).cache(cache);
    runner.in("k", k).in("v", v).in("slots", slots).run(*kernels, {2, 3});
    std::vector<uint16_t> keys;
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t slot = slots.at(r, 0), block = slot / 32, token = slot % 32;
      for (int64_t head = 0; head < 3; ++head) {
        const char* base = cache->keys(1, head) + block * cache->block_bytes();
        const uint16_t* stored_keys = reinterpret_cast<const uint16_t*>(base);
        const uint16_t* stored_values = reinterpret_cast<const uint16_t*>(base + cache->values_offset_bytes());
        for (int64_t d = 0; d < head_dim; ++d) {
          keys.push_back(stored_keys[d * 32 + token]);
          keys.push_back(stored_values[token * head_dim + d]);
          CHECK((keys.back() & 0x7c00) != 0x7c00);
        }
      }
    }
    if (first_keys.empty()) first_keys = keys;
    CHECK(keys == first_keys);
    CHECK_EQUAL(reinterpret_cast<const uint16_t*>(cache->keys(0, 0))[3], 0);  // layer 0 is untouched
  }
}

void kv_cache_checks_sizes() {
  CHECK_ERROR(kMemory, KvCache(1000, 1000, 1000, 1 << 30, DType::kF32));
  CHECK_ERROR(kMemory, KvCache(INT64_MAX, 8, 8, 8, DType::kF16));
  CHECK_ERROR(kValue, KvCache(1, 0, 8, 8, DType::kF16));
  CHECK_ERROR(kValue, KvCache(1, 1, 8, 8, DType::kI8));
  KvCache cache(2, 2, 8, 3, DType::kF16);
  CHECK_EQUAL(cache.nbytes(), int64_t{2} * 2 * 2 * 8 * 32 * 2 * 3);
  cache.keys(1, 1)[cache.block_bytes() + 5] = 9;
  cache.copy_block(1, 2);
  cache.zero_block(1);
  CHECK_EQUAL(int(cache.keys(1, 1)[2 * cache.block_bytes() + 5]), 9);
  CHECK_EQUAL(int(cache.keys(1, 1)[cache.block_bytes() + 5]), 0);
  CHECK_ERROR(kValue, cache.copy_block(0, 3));
  CHECK_ERROR(kValue, cache.zero_block(-1));
}

void wrong_nodes_are_refused() {
  const Kernels& kernels = *available_kernels().front();
  Table<float> x(2, 12), narrow(2, 5);
  CHECK_ERROR(kPlan, OpRunner("add").in("a", x).in("b", narrow).out("out", x).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("silu_gate").in("x", x).out("out", narrow).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("gelu").text("approximate", "maybe").in("x", x).out("out", x).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("rms_norm").number("eps", 1e-5).number("heads", 5).vector("weight", {1}).in("x", x)
                         .out("out", x).run(kernels));
  CHECK_ERROR(kPlan, OpRunner("layer_norm").in("x", x).out("out", x).run(kernels));
  CHECK(find_op("nothing") == nullptr);
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"rms_norm_matches", rms_norm_matches},
                          {"layer_norm_matches", layer_norm_matches},
                          {"add_matches", add_matches},
                          {"silu_gate_matches", silu_gate_matches},
                          {"gelu_matches", gelu_matches},
                          {"activations_at_the_edges", activations_at_the_edges},
                          {"rotary_matches", rotary_matches},
                          {"norms_by_head_and_stride", norms_by_head_and_stride},
                          {"gather_rows_copies", gather_rows_copies},
                          {"kv_write_stores", kv_write_stores},
                          {"kv_cache_checks_sizes", kv_cache_checks_sizes},
                          {"wrong_nodes_are_refused", wrong_nodes_are_refused}});
}
