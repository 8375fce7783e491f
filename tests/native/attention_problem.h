// Attention over a paged cache: random sequences, and the result in double precision (layer 1).
#pragma once

#include <cmath>
#include <memory>

#include "base/half.h"
#include "check.h"
#include "memory/kv_cache.h"
#include "op_runner.h"

namespace weft::test {

struct Shape {
  int64_t kv_heads, group, head_dim;
  int64_t window = 0;
  DType dtype = DType::kF16;
};

// A sequence of which `num_rows` tokens are new, after `past` tokens that the cache has.
struct Sequence {
  int64_t past, num_rows;
};

inline double element(const char* data, int64_t index, DType dtype) {
  if (dtype == DType::kF32) return reinterpret_cast<const float*>(data)[index];
  const uint16_t half = reinterpret_cast<const uint16_t*>(data)[index];
  if (dtype == DType::kBF16) return float_of_bf16(half);
  const int exponent = (half >> 10) & 31, mantissa = half & 1023;
  const double size = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
  return half & 0x8000 ? -size : size;
}

// Sequences whose blocks lie scattered over a cache, queries, and a block of garbage after each sequence's end.
struct Problem {
  Shape shape;
  std::vector<Sequence> sequences;
  int64_t layers;
  std::shared_ptr<KvCache> cache;
  Table<float> q;
  Table<int32_t> table, sequence_rows;

  Problem(const Shape& shape, const std::vector<Sequence>& sequences, uint32_t seed, int64_t layers = 2)
      : shape(shape), sequences(sequences), layers(layers), q(count_rows(sequences), width(), 3), table(count_blocks(sequences), 1),
        sequence_rows(static_cast<int64_t>(sequences.size()), 4) {
    cache = std::make_shared<KvCache>(layers, shape.kv_heads, shape.head_dim, table.rows + 2, shape.dtype);
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 1.5f);
    for (float& value : q.memory) value = normal(random);
    std::vector<int32_t> blocks(table.rows + 2);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), random);
    std::copy(blocks.begin(), blocks.begin() + table.rows, table.memory.begin());
    place();
    for (int64_t layer = 0; layer < layers; ++layer) fill_cache(layer, random);
  }

  static int64_t blocks_of(const Sequence& sequence) { return (sequence.past + sequence.num_rows + 31) / 32; }
  static int64_t count_rows(const std::vector<Sequence>& list) {
    return std::accumulate(list.begin(), list.end(), int64_t{0}, [](int64_t n, const Sequence& s) { return n + s.num_rows; });
  }
  static int64_t count_blocks(const std::vector<Sequence>& list) {
    return std::accumulate(list.begin(), list.end(), int64_t{0}, [](int64_t n, const Sequence& s) { return n + blocks_of(s); });
  }
  int64_t width() const { return shape.kv_heads * shape.group * shape.head_dim; }

  void place() {
    int64_t row = 0, block = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const int64_t columns[4] = {row, sequences[i].num_rows, sequences[i].past, block};
      for (int c = 0; c < 4; ++c) sequence_rows.at(i, c) = static_cast<int32_t>(columns[c]);
      row += sequences[i].num_rows;
      block += blocks_of(sequences[i]);
    }
  }

  // Every slot of the cache holds something, so what must not be seen is there to be seen.
  void fill_cache(int64_t layer, std::mt19937& random) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    const int64_t slots = cache->num_slots();
    Table<float> k(slots, shape.kv_heads * shape.head_dim), v(slots, shape.kv_heads * shape.head_dim);
    for (float& value : k.memory) value = normal(random);
    for (float& value : v.memory) value = normal(random);
    Table<int32_t> slot(slots, 1);
    std::iota(slot.memory.begin(), slot.memory.end(), 0);
    OpRunner writer("kv_write");
    writer.number("layer", layer).number("kv_heads", shape.kv_heads).number("head_dim", shape.head_dim).cache(cache);
    writer.in("k", k).in("v", v).in("slots", slot).run(*available_kernels().front());
  }

  double scale() const { return 1.0 / std::sqrt(double(shape.head_dim)); }

  Table<float> run(const Kernels& kernels, const Schedule& schedule = {}) const {
    return run_part(kernels, schedule, q, sequence_rows);
  }

  Table<float> run_part(const Kernels& kernels, const Schedule& schedule, const Table<float>& queries,
                        const Table<int32_t>& rows) const {
    Table<float> out(queries.rows, width(), 5, 9.0f);
    runner(1, queries, rows, out).run(kernels, schedule);
    return out;
  }

  OpRunner runner(int64_t layer, const Table<float>& queries, const Table<int32_t>& rows, Table<float>& out) const {
    OpRunner runner("attention");
    runner.number("layer", layer).number("heads", shape.kv_heads * shape.group).number("kv_heads", shape.kv_heads);
    runner.number("head_dim", shape.head_dim).number("scale", scale()).number("window", shape.window).cache(cache);
    runner.in("q", queries).in("sequences", rows).in("block_table", table).out("out", out);
    return runner;
  }

  // Row `row` of sequence `index` in a run of its own.
  Table<float> run_row(const Kernels& kernels, size_t index, int64_t row) const {
    Table<float> query(1, width());
    std::copy_n(q.row(sequence_rows.at(index, 0) + row), width(), query.row(0));
    Table<int32_t> rows(1, 4);
    rows.at(0, 1) = 1;
    rows.at(0, 2) = static_cast<int32_t>(sequences[index].past + row);
    rows.at(0, 3) = sequence_rows.at(index, 3);
    return run_part(kernels, {}, query, rows);
  }

  // Whether these kernels round queries and weights to bfloat16 before they multiply.
  bool rounds(const Kernels& kernels) const {
    return cache->dtype() == DType::kBF16 && kernels.isa == std::string("avx512");
  }

  // What a feature of a query adds to a score for each unit of the key's.
  double scaled(float query, bool is_rounded) const {
    if (!is_rounded) return query * scale();
    return float_of_bf16(bf16_of_float(query * (static_cast<float>(scale()) * 1.44269504f))) * std::log(2.0);
  }

  // Where a feature of a key, or of a value, lies in its block.
  int64_t key_index(int64_t token, int64_t d) const {
    return cache->dtype() == DType::kBF16 ? (d / 2 * 32 + token % 32) * 2 + d % 2 : d * 32 + token % 32;
  }
  int64_t value_index(int64_t token, int64_t d) const {
    const int64_t t = token % 32;
    return cache->dtype() == DType::kBF16 ? (t / 2 * shape.head_dim + d) * 2 + t % 2 : t * shape.head_dim + d;
  }

  // out[head_dim] of one query in double precision; also how large its terms are.
  double reference(size_t index, int64_t row, int64_t head, std::vector<double>& out, bool is_rounded) const {
    const int64_t position = sequences[index].past + row, kv_head = head / shape.group;
    const int64_t first = shape.window ? std::max<int64_t>(0, position - shape.window + 1) : 0;
    const float* query = q.row(sequence_rows.at(index, 0) + row) + head * shape.head_dim;
    std::vector<double> scores;
    for (int64_t token = first; token <= position; ++token) {
      double score = 0;
      const char* keys = block_of(index, token, kv_head);
      for (int64_t d = 0; d < shape.head_dim; ++d)
        score += scaled(query[d], is_rounded) * element(keys, key_index(token, d), cache->dtype());
      scores.push_back(score);
    }
    const double top = *std::max_element(scores.begin(), scores.end());
    double total = 0, size = 0;
    for (double& score : scores) total += score = std::exp(score - top);
    out.assign(shape.head_dim, 0.0);
    for (int64_t token = first; token <= position; ++token) {
      const char* values = block_of(index, token, kv_head) + cache->values_offset_bytes();
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        const double value = element(values, value_index(token, d), cache->dtype());
        out[d] += scores[token - first] / total * value;
        size = std::max(size, std::abs(value));
      }
    }
    return size;
  }

  const char* block_of(size_t index, int64_t token, int64_t kv_head) const {
    const int32_t block = table.at(sequence_rows.at(index, 3) + token / 32, 0);
    return cache->keys(1, kv_head) + block * cache->block_bytes();
  }

  // Checks one row in `every` of each sequence, of several sets of kernels against one computation. is_rounded: their
  // products are of numbers rounded to bfloat16.
  void check(const std::vector<Table<float>>& outs, bool is_rounded, int64_t every = 1) const {
    if (outs.empty()) return;
    std::vector<double> expected;
    for (size_t index = 0; index < sequences.size(); ++index) {
      for (int64_t row = 0; row < sequences[index].num_rows; row += every) {
        const int64_t r = sequence_rows.at(index, 0) + row;
        for (int64_t head = 0; head < shape.kv_heads * shape.group; ++head) {
          const double size = reference(index, row, head, expected, is_rounded);
          const double bound = (is_rounded ? 0x1.01p-9 : 0.0) * size + 30 * 5.97e-8 * size;
          for (const Table<float>& out : outs) check_head(out, r, head, expected, bound);
        }
        for (const Table<float>& out : outs) CHECK_EQUAL(out.row(r)[width()], 9.0f);
      }
    }
  }

  // Rounding of a score of size |q||k| moves its weight by as much: 30 units cover it. In bfloat16 each weight is
  // rounded by 2^-9 of itself at most, and their sum is not.
  void check_head(const Table<float>& out, int64_t r, int64_t head, const std::vector<double>& expected, double bound) const {
    for (int64_t d = 0; d < shape.head_dim; ++d) {
      const double got = out.at(r, head * shape.head_dim + d);
      if (std::abs(got - expected[d]) <= bound) continue;
      std::ostringstream text;
      text << "row " << r << " head " << head << " element " << d << " of " << shape.kv_heads << "x" << shape.group << "x"
           << shape.head_dim << " window " << shape.window << ": expected " << expected[d] << ", got " << got;
      return weft::test::fail(__FILE__, __LINE__, text.str());
    }
  }
};

}  // namespace weft::test
