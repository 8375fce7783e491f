// Random weights in every encoding, and products by the serial loop that kernels/matmul.h promises.
#pragma once

#include <cmath>
#include <memory>

#include "base/half.h"
#include "op_runner.h"
#include "ops/group_codes.h"
#include "ops/weight_pack.h"

namespace weft::test {

inline const BlockKind kAllKinds[] = {BlockKind::kF32,  BlockKind::kF16,  BlockKind::kBF16, BlockKind::kQ8_0,
                                      BlockKind::kQ4_0, BlockKind::kQ4_1, BlockKind::kQ5_0, BlockKind::kQ5_1,
                                      BlockKind::kQ4_K, BlockKind::kQ5_K, BlockKind::kQ6_K};

// A matrix [n, k] in a file's encoding: random codes, scales about 0.01, minimums about -0.05.
struct FileBytes {
  BlockKind kind;
  int64_t n, k;
  std::vector<uint8_t> bytes;

  FileBytes(BlockKind kind, int64_t n, int64_t k, uint32_t seed) : kind(kind), n(n), k(k) {
    std::mt19937 random(seed);
    bytes.resize(static_cast<size_t>(n * row_bytes(kind, k)));
    if (is_plain(kind)) {
      fill_floats(random);
      return;
    }
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random());
    const size_t block = static_cast<size_t>(row_bytes(kind, block_elements(kind)));
    for (size_t at = 0; at < bytes.size(); at += block) fix_numbers(bytes.data() + at, random);
  }

  FileMatrix matrix() const { return {kind, n, k, bytes.data(), bytes.size(), {}}; }
  const uint8_t* row(int64_t index) const { return bytes.data() + index * row_bytes(kind, k); }

 private:
  void fill_floats(std::mt19937& random) {
    std::normal_distribution<float> normal(0.0f, 0.05f);
    for (int64_t i = 0; i < n * k; ++i) {
      const float value = normal(random);
      const uint16_t half = kind == BlockKind::kF16 ? f16_of_float(value) : bf16_of_float(value);
      if (kind == BlockKind::kF32) {
        std::memcpy(bytes.data() + 4 * i, &value, 4);
      } else {
        std::memcpy(bytes.data() + 2 * i, &half, 2);
      }
    }
  }

  void fix_numbers(uint8_t* block, std::mt19937& random) const {
    const bool wide = block_elements(kind) == 256;
    std::uniform_real_distribution<float> some(0.5f, 1.5f);
    put(block + (kind == BlockKind::kQ6_K ? 208 : 0), (wide ? 3e-4f : 1e-2f) * some(random));
    const bool has_minimum = kind == BlockKind::kQ4_1 || kind == BlockKind::kQ5_1;
    if (has_minimum) put(block + 2, -0.05f * some(random));
    if (kind == BlockKind::kQ4_K || kind == BlockKind::kQ5_K) put(block + 2, 2e-3f * some(random));
  }
  static void put(uint8_t* to, float value) {
    const uint16_t half = f16_of_float(value);
    std::memcpy(to, &half, 2);
  }
};

// A row of x in the numbers of an integer product.
struct QuantizedRow {
  std::vector<int> codes;
  std::vector<float> scales, sums;

  // span: inputs with one scale
  QuantizedRow(const float* x, int64_t k, int64_t span = 32) : codes(static_cast<size_t>((k + span - 1) / span * span)) {
    for (int64_t first = 0; first < k; first += span) {
      const int64_t count = std::min<int64_t>(span, k - first);
      float largest = 0;
      for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::fabs(x[first + i]));
      const float factor = largest < 1e-30f ? 0.0f : 127.0f / largest;
      int sum = 0;
      for (int64_t i = 0; i < count; ++i)
        sum += codes[static_cast<size_t>(first + i)] = static_cast<int>(std::nearbyint(x[first + i] * factor));
      scales.push_back(largest < 1e-30f ? 0.0f : largest / 127.0f);
      sums.push_back(scales.back() * static_cast<float>(sum));
    }
  }
};

// The same in spans of groups with one scale, the smaller groups doubled as often as the span's largest number allows.
struct ShiftedRow {
  static constexpr int64_t kSpan = kShiftedGroups * kGroupInputs;
  std::vector<int> codes, doublings;
  std::vector<float> scales;

  ShiftedRow(const float* x, int64_t k) : codes(static_cast<size_t>(k)) {
    for (int64_t first = 0; first < k; first += kSpan) {
      const int64_t end = std::min(k, first + kSpan);
      const float top = largest(x, first, end);
      scales.push_back(top < 1e-30f ? 0.0f : top / 127.0f);
      for (int64_t group = first; group < end; group += kGroupInputs) add_group(x, group, top);
    }
  }

 private:
  static float largest(const float* x, int64_t first, int64_t end) {
    return std::accumulate(x + first, x + end, 0.0f, [](float a, float b) { return std::max(a, std::fabs(b)); });
  }
  void add_group(const float* x, int64_t first, float top) {
    const float own = largest(x, first, first + kGroupInputs);
    int doubled = 0;
    while (doubled < kMostShift && own * static_cast<float>(2 << doubled) <= top) ++doubled;
    const float factor = top < 1e-30f ? 0.0f : 127.0f / top * static_cast<float>(1 << doubled);
    doublings.push_back(doubled);
    for (int64_t i = first; i < first + kGroupInputs; ++i)
      codes[static_cast<size_t>(i)] = static_cast<int>(std::nearbyint(x[i] * factor));
  }
};

inline float multiply_add(bool fused, float a, float b, float c) { return fused ? std::fma(a, b, c) : a * b + c; }

inline float float_product(bool fused, const float* x, const float* weights, int64_t k) {
  float sum = 0;
  for (int64_t i = 0; i < k; ++i) sum = multiply_add(fused, weights[i], x[i], sum);
  return sum;
}

// v / 2^times, to the nearest whole number.
inline int halved(int v, int times) { return times == 0 ? v : (v + (1 << (times - 1))) >> times; }

// A row of an integer weight as panels hold it.
struct CodedWeights {
  PanelFormat format;
  std::vector<uint8_t> codes;
  std::vector<float> scales, minimums;
  std::vector<int16_t> whole_scales, centers;  // kQ4 only
  float unit = 1.0f;

  CodedWeights(BlockKind kind, const uint8_t* row, int64_t k)
      : format(panel_format(kind)), codes(static_cast<size_t>(k)),
        scales(static_cast<size_t>(k / 32 * format.scales_per_group)), minimums(static_cast<size_t>(k / 32)) {
    decode_codes(kind, row, k, codes.data(), scales.data(), minimums.data());
    if (format.kind == PanelKind::kQ4) make_whole();
  }

  float product(bool fused, const QuantizedRow& x) const {
    const size_t parts = static_cast<size_t>(format.scales_per_group), inputs = 32 / parts;
    const int bias = format.kind == PanelKind::kQ8 ? 128 : 0;
    float sum = 0;
    for (size_t group = 0; group < minimums.size(); ++group) {
      if (format.minimum != Minimum::kNone) sum = multiply_add(fused, minimums[group], x.sums[group], sum);
      for (size_t part = 0; part < parts; ++part) {
        int dot = 0;
        for (size_t i = 0; i < inputs; ++i) {
          const size_t at = group * 32 + part * inputs + i;
          dot += (codes[at] - bias) * x.codes[at];
        }
        sum = multiply_add(fused, scales[group * parts + part] * x.scales[group], static_cast<float>(dot), sum);
      }
    }
    return sum * unit;
  }

  float product(const ShiftedRow& x) const {
    float sum = 0;
    for (size_t group = 0; group < minimums.size();) {
      const float x_scale = x.scales[group / kShiftedGroups];
      int span = 0;
      for (const size_t end = std::min(minimums.size(), group + kShiftedGroups); group < end; ++group) {
        int dot = 0, codes_sum = 0;
        for (size_t at = group * 32; at < group * 32 + 32; ++at) {
          dot += (codes[at] - 8) * x.codes[at];
          codes_sum += x.codes[at];
        }
        span += whole_scales[group] * halved(dot, x.doublings[group]);
        span += centers[group] * halved(8 * codes_sum, x.doublings[group]);
      }
      sum = std::fma(x_scale, static_cast<float>(span), sum);
    }
    return sum * unit;
  }

 private:
  void make_whole() {
    whole_scales.resize(scales.size());
    centers.resize(scales.size());
    unit = whole_numbers(scales.data(), format.minimum == Minimum::kStored ? minimums.data() : nullptr,
                         static_cast<int64_t>(scales.size()), whole_scales.data(), centers.data());
    for (size_t i = 0; i < scales.size(); ++i) {
      scales[i] = whole_scales[i];
      minimums[i] = 8.0f * static_cast<float>(centers[i] - whole_scales[i]);
    }
  }
};

// A row of weights with one scale, as they are requantized to kInt8.
struct Int8Weights {
  std::vector<uint8_t> codes;
  float scale;

  Int8Weights(BlockKind kind, const uint8_t* row, int64_t k) : codes(static_cast<size_t>(k)) {
    std::vector<float> values(codes.size());
    decode_row(kind, row, k, values.data());
    scale = encode_int8(values.data(), static_cast<int64_t>(codes.size()), codes.data());
  }

  float product(bool fused, const QuantizedRow& x) const {
    float sum = 0;
    const size_t span = x.codes.size() / x.scales.size();
    for (size_t part = 0; part < x.scales.size(); ++part) {
      int dot = 0;
      for (size_t i = part * span; i < std::min(codes.size(), (part + 1) * span); ++i) dot += (codes[i] - 128) * x.codes[i];
      sum = multiply_add(fused, x.scales[part], static_cast<float>(dot), sum);
    }
    return sum * scale;
  }
};

inline Table<float> random_table(int64_t rows, int64_t columns, uint32_t seed, int64_t gap = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Table<float> table(rows, columns, gap);
  for (float& value : table.memory) value = normal(random);
  return table;
}

// Whether products of the instruction set read rows as ShiftedRow.
inline bool shifts_rows(const Kernels& kernels, BlockKind kind) {
  return kernels.matmul->row_form[static_cast<int>(panel_format(kind).kind)] == RowForm::kI8Shifted;
}

// x times the transpose of `weights` in groups that are shifted.
inline Table<float> reference_shifted_product(const Table<float>& x, const FileBytes& weights) {
  Table<float> out(x.rows, weights.n);
  std::vector<ShiftedRow> rows;
  for (int64_t r = 0; r < x.rows; ++r) rows.emplace_back(x.row(r), x.columns);
  for (int64_t n = 0; n < weights.n; ++n) {
    const CodedWeights coded(weights.kind, weights.row(n), weights.k);
    for (int64_t r = 0; r < x.rows; ++r) out.at(r, n) = coded.product(rows[static_cast<size_t>(r)]);
  }
  return out;
}

inline bool is_fused(const Kernels& kernels) { return std::string(kernels.isa) != "portable"; }

// x times the transpose of `weights`, as one thread would.
inline Table<float> reference_product(const Kernels& kernels, const Table<float>& x, const FileBytes& weights) {
  if (shifts_rows(kernels, weights.kind)) return reference_shifted_product(x, weights);
  const bool fused = is_fused(kernels);
  Table<float> out(x.rows, weights.n);
  std::vector<float> values(static_cast<size_t>(weights.k));
  std::vector<QuantizedRow> rows;
  if (!is_plain(weights.kind))
    for (int64_t r = 0; r < x.rows; ++r) rows.emplace_back(x.row(r), x.columns);
  for (int64_t n = 0; n < weights.n; ++n) {
    if (is_plain(weights.kind)) {
      decode_row(weights.kind, weights.row(n), weights.k, values.data());
      for (int64_t r = 0; r < x.rows; ++r) out.at(r, n) = float_product(fused, x.row(r), values.data(), x.columns);
    } else {
      const CodedWeights coded(weights.kind, weights.row(n), weights.k);
      for (int64_t r = 0; r < x.rows; ++r) out.at(r, n) = coded.product(fused, rows[static_cast<size_t>(r)]);
    }
  }
  return out;
}

// Whether the instruction set rounds rows to bfloat16 too.
inline bool rounds_rows(const Kernels& kernels, BlockKind kind) {
  return kind == BlockKind::kBF16 && std::string(kernels.isa) == "avx512";
}

// The same of weights that were requantized to kInt8.
inline Table<float> reference_int8_product(const Kernels& kernels, const Table<float>& x, const FileBytes& weights) {
  const bool fused = is_fused(kernels);
  const int64_t span = std::string(kernels.isa) == "avx512" ? kSpanGroups * kGroupInputs : kGroupInputs;
  Table<float> out(x.rows, weights.n);
  std::vector<QuantizedRow> rows;
  for (int64_t r = 0; r < x.rows; ++r) rows.emplace_back(x.row(r), x.columns, span);
  for (int64_t n = 0; n < weights.n; ++n) {
    const Int8Weights coded(weights.kind, weights.row(n), weights.k);
    for (int64_t r = 0; r < x.rows; ++r) out.at(r, n) = coded.product(fused, rows[static_cast<size_t>(r)]);
  }
  return out;
}

inline Team& test_team() {
  static Pool pool(2, 1);
  return pool.team(0);
}

inline std::shared_ptr<const Weight> pack(const std::vector<const FileBytes*>& parts, bool interleave = false,
                                          std::optional<PanelKind> target = {}) {
  std::vector<FileMatrix> matrices;
  for (const FileBytes* part : parts) matrices.push_back(part->matrix());
  return pack_weight(test_team(), matrices, interleave, target);
}

// Some rows of a table, as a table.
inline Table<float> rows_of(const Table<float>& table, int64_t first, int64_t count) {
  Table<float> some(count, table.columns);
  for (int64_t r = 0; r < count; ++r) std::memcpy(some.row(r), table.row(first + r), table.columns * sizeof(float));
  return some;
}

inline Table<float> run_linear(const Kernels& kernels, const Table<float>& x, std::shared_ptr<const Weight> weight,
                               const Schedule& schedule = {}) {
  Table<float> out(x.rows, weight->n());
  OpRunner("linear").weight("weight", weight).in("x", x).out("out", out).run(kernels, schedule);
  return out;
}

}  // namespace weft::test
