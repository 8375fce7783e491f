// Attention within sequences, and its gradient: random rows, and the results in double precision.
#pragma once

#include <array>
#include <cmath>

#include "check.h"
#include "op_runner.h"

namespace weft::test {

struct SequenceShape {
  int64_t kv_heads, group, head_dim;
  int64_t window = 0;
};

struct SequenceProblem {
  struct Results {
    Table<float> out, log_sum_exp, d_q, d_k, d_v;
  };

  SequenceShape shape;
  std::vector<int64_t> lengths;
  bool rounds_to_bf16 = false;
  Table<float> q, k, v, d_out;
  Table<int32_t> sequences;

  SequenceProblem(const SequenceShape& shape, const std::vector<int64_t>& lengths, uint32_t seed)
      : shape(shape), lengths(lengths), q(num_rows(), width(), 3), k(num_rows(), kv_width(), 5), v(num_rows(), kv_width()),
        d_out(num_rows(), width(), 1), sequences(static_cast<int64_t>(lengths.size()), 2) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0.0f, 1.3f);
    for (Table<float>* table : {&q, &k, &v, &d_out})
      for (float& value : table->memory) value = normal(random);
    int64_t row = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      sequences.at(i, 0) = static_cast<int32_t>(row);
      sequences.at(i, 1) = static_cast<int32_t>(lengths[i]);
      row += lengths[i];
    }
  }

  int64_t num_rows() const { return std::accumulate(lengths.begin(), lengths.end(), int64_t{0}); }
  int64_t heads() const { return shape.kv_heads * shape.group; }
  int64_t width() const { return heads() * shape.head_dim; }
  int64_t kv_width() const { return shape.kv_heads * shape.head_dim; }
  double scale() const { return 1.0 / std::sqrt(double(shape.head_dim)); }

  Results empty() const {
    const int64_t rows = num_rows();
    return {{rows, width(), 2}, {rows, heads(), 1}, {rows, width(), 1}, {rows, kv_width(), 4}, {rows, kv_width()}};
  }
  OpRunner forward(Results& results) const {
    OpRunner runner = with_attributes("sequence_attention");
    return runner.out("out", results.out).out("log_sum_exp", results.log_sum_exp);
  }
  OpRunner backward(Results& results) const {
    OpRunner runner = with_attributes("sequence_attention_grad");
    runner.in("out", results.out).in("log_sum_exp", results.log_sum_exp).in("d_out", d_out);
    return runner.out("d_q", results.d_q).out("d_k", results.d_k).out("d_v", results.d_v);
  }
  Results run(const Kernels& kernels, const Schedule& schedule = {}) const {
    Results results = empty();
    forward(results).run(kernels, schedule);
    backward(results).run(kernels, schedule);
    return results;
  }

  // Every element of all results; only the first `most_sequences` sequences.
  // Checks results of several sets of kernels against one computation in double precision.
  void check(const std::vector<Results>& all, size_t most_sequences = SIZE_MAX) const {
    for (size_t i = 0; i < std::min(lengths.size(), most_sequences); ++i) check_sequence(all, sequences.at(i, 0), lengths[i]);
  }

 private:
  static constexpr double kRounding = 16000;  // how much more rounding factors to bfloat16 may change: scores of 10 by 4e-2

  OpRunner with_attributes(const std::string& op) const {
    OpRunner runner(op);
    runner.number("heads", heads()).number("kv_heads", shape.kv_heads).number("head_dim", shape.head_dim);
    runner.number("scale", scale()).number("window", shape.window);
    if (rounds_to_bf16) runner.text("compute", "bf16");
    return runner.in("q", q).in("k", k).in("v", v).in("sequences", sequences);
  }

  double dot(const Table<float>& a, int64_t row_a, int64_t column_a, const Table<float>& b, int64_t row_b, int64_t column_b) const {
    double sum = 0;
    for (int64_t d = 0; d < shape.head_dim; ++d) sum += double(a.at(row_a, column_a + d)) * b.at(row_b, column_b + d);
    return sum;
  }

  void check_row(const char* what, const Table<float>& got, int64_t row, int64_t column, const double* expected, int64_t count,
                 double tolerance) const {
    for (int64_t d = 0; d < count; ++d) {
      const double allowed = rounds_to_bf16 ? kRounding * tolerance : tolerance;
      if (std::abs(got.at(row, column + d) - expected[d]) <= allowed * std::max(1.0, std::abs(expected[d]))) continue;
      std::ostringstream text;
      text << what << " at " << row << ", " << column + d << " (d " << shape.head_dim << ", group " << shape.group
           << ", window " << shape.window << "): expected " << expected[d] << ", got " << got.at(row, column + d);
      return fail(__FILE__, __LINE__, text.str());
    }
  }

  void check_sequence(const std::vector<Results>& all, int64_t first, int64_t rows) const {
    const int64_t dim = shape.head_dim;
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head) {
      std::vector<double> d_keys(rows * dim), d_values(rows * dim);
      for (int64_t head = kv_head * shape.group; head < (kv_head + 1) * shape.group; ++head)
        for (int64_t row = 0; row < rows; ++row) check_query(all, first, row, head, kv_head, d_keys, d_values);
      for (const Results& got : all) {
        for (int64_t t = 0; t < rows; ++t) {
          check_row("d_k", got.d_k, first + t, kv_head * dim, &d_keys[t * dim], dim, 1e-4);
          check_row("d_v", got.d_v, first + t, kv_head * dim, &d_values[t * dim], dim, 1e-4);
        }
      }
    }
  }

  void check_query(const std::vector<Results>& all, int64_t first, int64_t row, int64_t head, int64_t kv_head,
                   std::vector<double>& d_keys, std::vector<double>& d_values) const {
    const int64_t dim = shape.head_dim, column = head * dim, kv_column = kv_head * dim;
    const int64_t begin = shape.window > 0 ? std::max<int64_t>(0, row - shape.window + 1) : 0;
    std::vector<double> weights, slopes, out(dim), d_query(dim);
    double top = -1e300, sum = 0, product = 0;
    for (int64_t t = begin; t <= row; ++t) weights.push_back(scale() * dot(q, first + row, column, k, first + t, kv_column));
    for (const double score : weights) top = std::max(top, score);
    for (const double score : weights) sum += std::exp(score - top);
    const double log_sum_exp = top + std::log(sum);
    for (int64_t t = begin; t <= row; ++t) {
      double& weight = weights[t - begin];
      weight = std::exp(weight - log_sum_exp);
      slopes.push_back(dot(d_out, first + row, column, v, first + t, kv_column));
      product += weight * slopes.back();
      for (int64_t d = 0; d < dim; ++d) {
        out[d] += weight * v.at(first + t, kv_column + d);
        d_values[t * dim + d] += weight * d_out.at(first + row, column + d);
      }
    }
    for (int64_t t = begin; t <= row; ++t) {
      const double d_score = scale() * weights[t - begin] * (slopes[t - begin] - product);
      for (int64_t d = 0; d < dim; ++d) {
        d_query[d] += d_score * k.at(first + t, kv_column + d);
        d_keys[t * dim + d] += d_score * q.at(first + row, column + d);
      }
    }
    for (const Results& got : all) {
      check_row("out", got.out, first + row, column, out.data(), dim, 5e-6);
      check_row("log_sum_exp", got.log_sum_exp, first + row, head, &log_sum_exp, 1, 3e-6);
      check_row("d_q", got.d_q, first + row, column, d_query.data(), dim, 3e-5);
    }
  }
};

}  // namespace weft::test
