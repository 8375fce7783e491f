// Sampling and log-probabilities against a sorted, double precision reference.
#include <cmath>
#include <set>

#include "base/random.h"
#include "check.h"
#include "op_runner.h"
#include "ops/sample.h"

using namespace weft;
using namespace weft::test;

namespace {

struct Request {
  float temperature = 1.0f, top_p = 1.0f, min_p = 0.0f, repetition = 1.0f, presence = 0.0f, frequency = 0.0f;
  int top_k = 0, num_top = 0;
  bool wants_log_prob = true;
  uint64_t seed = 1;
  int32_t stream = 0, position = 0;
  std::vector<int32_t> prompt, generated;
  std::vector<std::pair<int32_t, float>> bias;
  std::vector<uint32_t> mask;
};

// The inputs and outputs of a run over some requests, one row of logits each.
struct Batch {
  int64_t rows, vocabulary;
  Table<float> logits, reals, log_probs, top_log_probs;
  Table<int32_t> ints, tokens, top_ids;
  std::vector<int32_t> history, bias_ids;
  std::vector<float> bias_values;
  std::vector<uint32_t> mask;

  Batch(int64_t rows, int64_t vocabulary)
      : rows(rows), vocabulary(vocabulary), logits(rows, vocabulary, 3), reals(rows, kRealSettings), log_probs(rows, 1),
        top_log_probs(rows, kMaxTopLogProbs), ints(rows, kIntSettings), tokens(rows, 1, 0, -7),
        top_ids(rows, kMaxTopLogProbs) {}

  void set(int64_t row, const Request& request) {
    const float real[kRealSettings] = {request.temperature, request.top_p,    request.min_p,
                                       request.repetition,  request.presence, request.frequency};
    std::copy(std::begin(real), std::end(real), reals.row(row));
    int32_t* to = ints.row(row);
    to[kTopK] = request.top_k;
    to[kWantsLogProb] = request.wants_log_prob;
    to[kNumTopLogProbs] = request.num_top;
    to[kSeedLow] = static_cast<int32_t>(request.seed);
    to[kSeedHigh] = static_cast<int32_t>(request.seed >> 32);
    to[kStream] = request.stream;
    to[kPosition] = request.position;
    to[kHistoryBegin] = static_cast<int32_t>(history.size());
    history.insert(history.end(), request.prompt.begin(), request.prompt.end());
    to[kGeneratedBegin] = static_cast<int32_t>(history.size());
    history.insert(history.end(), request.generated.begin(), request.generated.end());
    to[kHistoryEnd] = static_cast<int32_t>(history.size());
    to[kBiasBegin] = static_cast<int32_t>(bias_ids.size());
    for (const auto& [id, value] : request.bias) {
      bias_ids.push_back(id);
      bias_values.push_back(value);
    }
    to[kBiasEnd] = static_cast<int32_t>(bias_ids.size());
    to[kMaskBegin] = static_cast<int32_t>(mask.size());
    mask.insert(mask.end(), request.mask.begin(), request.mask.end());
    to[kMaskEnd] = static_cast<int32_t>(mask.size());
  }

  template <typename T>
  static Table<T> column(const std::vector<T>& values) {
    Table<T> table(static_cast<int64_t>(values.size()), 1);
    std::copy(values.begin(), values.end(), table.memory.begin());
    return table;
  }

  void run(const Kernels& kernels, const Schedule& schedule = {}) {
    const auto ids = column(history), biased = column(bias_ids);
    const auto values = column(bias_values);
    const auto words = column(mask);
    OpRunner runner("sample");
    runner.in("logits", logits).in("real_settings", reals).in("int_settings", ints).in("history", ids);
    runner.in("bias_ids", biased).in("bias_values", values).in("mask_words", words);
    runner.out("tokens", tokens).out("log_probs", log_probs).out("top_ids", top_ids);
    runner.out("top_log_probs", top_log_probs).run(kernels, schedule);
  }
};

void fill(Table<float>& logits, uint32_t seed, float scale = 3.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  for (float& value : logits.memory) value = normal(random);
}

std::vector<double> adjusted(const Request& request, const float* logits, int64_t vocabulary) {
  std::vector<double> values(logits, logits + vocabulary);
  for (const auto& [id, value] : request.bias) values[id] += value;
  std::set<int32_t> seen(request.prompt.begin(), request.prompt.end());
  seen.insert(request.generated.begin(), request.generated.end());
  for (const int32_t id : seen)
    values[id] = values[id] > 0 ? values[id] / request.repetition : values[id] * request.repetition;
  const std::set<int32_t> distinct(request.generated.begin(), request.generated.end());
  for (const int32_t id : distinct) values[id] -= request.presence;
  for (const int32_t id : request.generated) values[id] -= request.frequency;
  for (int64_t id = 0; id < vocabulary && !request.mask.empty(); ++id)
    if ((request.mask[id / 32] >> id % 32 & 1) == 0) values[id] = -INFINITY;
  return values;
}

// The probability of each token after all steps; 0 for those that are not kept.
std::vector<double> distribution(const Request& request, const float* logits, int64_t vocabulary) {
  std::vector<double> values = adjusted(request, logits, vocabulary);
  std::vector<int32_t> order(vocabulary);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return values[a] > values[b]; });
  std::vector<double> result(vocabulary, 0.0);
  if (request.temperature == 0.0f) {
    result[order[0]] = 1.0;
    return result;
  }
  const double top = values[order[0]];
  const auto weight = [&](int64_t rank) { return std::exp((values[order[rank]] - top) / request.temperature); };
  const int64_t kept_k = request.top_k > 0 ? std::min<int64_t>(request.top_k, vocabulary) : vocabulary;
  double total = 0, sum = 0, kept_total = 0;
  for (int64_t rank = 0; rank < kept_k; ++rank) total += weight(rank);
  int64_t kept = 0;
  for (; kept < kept_k && weight(kept) >= request.min_p && (kept == 0 || sum < request.top_p * total); ++kept)
    sum += weight(kept);
  for (int64_t rank = 0; rank < kept; ++rank) kept_total += result[order[rank]] = weight(rank);
  for (double& probability : result) probability /= kept_total;
  return result;
}

// Whether inverse distribution at `share` gives `token`, up to rounding at a border.
bool is_draw(const std::vector<double>& distribution, double share, int32_t token) {
  if (distribution[token] == 0.0) return false;
  double below = 0;
  for (int32_t id = 0; id < token; ++id) below += distribution[id];
  return share > below - 2e-6 && share < below + distribution[token] + 2e-6;
}

double log_sum_exp(const float* logits, int64_t vocabulary) {
  const double top = *std::max_element(logits, logits + vocabulary);
  double total = 0;
  for (int64_t id = 0; id < vocabulary; ++id) total += std::exp(logits[id] - top);
  return top + std::log(total);
}

void check_log_probs(const Batch& batch, int64_t row, const Request& request) {
  const float* logits = batch.logits.row(row);
  const double total = log_sum_exp(logits, batch.vocabulary);
  const int32_t token = batch.tokens.at(row, 0);
  CHECK(std::abs(batch.log_probs.at(row, 0) - (request.wants_log_prob ? logits[token] - total : 0.0)) < 3e-6);
  std::vector<int32_t> order(batch.vocabulary);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  for (int i = 0; i < request.num_top; ++i) {
    CHECK_EQUAL(batch.top_ids.at(row, i), order[i]);
    CHECK(std::abs(batch.top_log_probs.at(row, i) - (logits[order[i]] - total)) < 3e-6);
  }
  if (request.num_top < kMaxTopLogProbs) CHECK_EQUAL(batch.top_log_probs.at(row, request.num_top), -INFINITY);
}

std::vector<Request> requests(int64_t vocabulary) {
  std::vector<Request> list(19);
  const auto id = [&](int64_t value) { return static_cast<int32_t>(value % vocabulary); };
  list[0].temperature = 0;
  list[1].temperature = 0.7f, list[1].num_top = 5;
  list[2].top_k = 1;
  list[3].top_k = 40, list[3].top_p = 0.9f, list[3].temperature = 0.7f;
  list[4].top_p = 0.5f, list[4].num_top = 1;
  list[5].top_p = 0.95f, list[5].temperature = 2.0f;
  list[6].min_p = 0.05f;
  list[7].min_p = 1.0f;
  list[8].top_k = 7, list[8].min_p = 0.3f, list[8].wants_log_prob = false;
  list[9].top_k = 5000, list[9].top_p = 0.99f, list[9].min_p = 1e-4f;
  list[10].temperature = 100.0f, list[10].top_p = 0.3f;
  list[11].temperature = 0, list[11].repetition = 1.7f, list[11].wants_log_prob = false;
  list[12].presence = 1.5f, list[12].frequency = 0.4f, list[12].top_p = 0.8f;
  list[13].bias = {{id(3), 50.0f}, {id(4), 50.0f}, {id(3), -1.0f}, {id(900), vocabulary > 1 ? -INFINITY : 0.0f}};
  list[14].bias = {{id(5), -100.0f}}, list[14].repetition = 0.5f, list[14].frequency = -0.5f, list[14].num_top = 20;
  list[15].mask.assign((vocabulary + 31) / 32, 0x00010001u);
  list[16].mask = list[15].mask, list[16].temperature = 0, list[16].num_top = 3;
  list[17].top_k = 3, list[17].top_p = 0.7f, list[17].presence = 2.0f;
  list[18].top_k = 60, list[18].top_p = 0.8f, list[18].min_p = 0.05f;
  for (const int i : {11, 12, 14, 17}) {
    for (int64_t n = 0; n < 30; ++n) list[i].prompt.push_back(id(n * n * 17));
    for (int64_t n = 0; n < 25; ++n) list[i].generated.push_back(id(n % 9 * 31));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    list[i].num_top = static_cast<int>(std::min<int64_t>(list[i].num_top, vocabulary));
    list[i].seed = 0x123456789abcull + i;
    list[i].stream = static_cast<int32_t>(i) - 3;
  }
  return list;
}

void matches_reference() {
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t vocabulary : {1, 2, 31, 33, 127, 129, 1000, 4097, 20000}) {
      const std::vector<Request> list = requests(vocabulary);
      Batch batch(static_cast<int64_t>(list.size()) * 8, vocabulary);
      fill(batch.logits, static_cast<uint32_t>(vocabulary));
      std::vector<Request> all;
      for (int64_t row = 0; row < batch.rows; ++row) {
        all.push_back(list[row / 8]);
        all.back().position = static_cast<int32_t>(row % 8);
        batch.set(row, all.back());
      }
      batch.run(*kernels, {3, 4});
      for (int64_t row = 0; row < batch.rows; ++row) {
        const Request& request = all[row];
        const double share = uniform_f64(request.seed, static_cast<uint32_t>(request.stream), request.position);
        const std::vector<double> expected = distribution(request, batch.logits.row(row), vocabulary);
        if (!is_draw(expected, share, batch.tokens.at(row, 0))) {
          fail(__FILE__, __LINE__, "request " + std::to_string(row / 8) + " of " + std::to_string(vocabulary) +
                                       " tokens drew " + std::to_string(batch.tokens.at(row, 0)));
        }
        check_log_probs(batch, row, request);
      }
    }
  }
}

// Chi-square over many draws from one distribution.
void draws_have_the_distribution() {
  for (const Kernels* kernels : available_kernels()) {
    for (const float top_p : {1.0f, 0.9f}) {
      constexpr int64_t kDraws = 20000, kTokens = 50;
      Batch batch(kDraws, kTokens);
      fill(batch.logits, 9, 1.0f);
      Request request;
      request.top_p = top_p;
      request.wants_log_prob = false;
      for (int64_t row = 0; row < kDraws; ++row) {
        std::copy_n(batch.logits.row(0), kTokens, batch.logits.row(row));
        request.position = static_cast<int32_t>(row);
        batch.set(row, request);
      }
      batch.run(*kernels);
      const std::vector<double> expected = distribution(request, batch.logits.row(0), kTokens);
      std::vector<double> counts(kTokens, 0.0);
      for (int64_t row = 0; row < kDraws; ++row) counts[batch.tokens.at(row, 0)] += 1;
      double chi_square = 0;
      int degrees = -1;
      for (int64_t id = 0; id < kTokens; ++id) {
        const double mean = expected[id] * kDraws;
        if (mean == 0.0) CHECK_EQUAL(counts[id], 0.0);
        if (mean > 0.0) chi_square += (counts[id] - mean) * (counts[id] - mean) / mean, ++degrees;
      }
      CHECK(chi_square < degrees + 4 * std::sqrt(2.0 * degrees));
    }
  }
}

void ties_go_to_the_lowest_id() {
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t vocabulary : {5, 300, 9000}) {
      Batch batch(2, vocabulary);
      const int64_t first = vocabulary / 2;
      for (int64_t id = first; id < vocabulary; id += 2) batch.logits.at(0, id) = batch.logits.at(1, id) = 2.5f;
      Request request;
      request.temperature = 0;
      request.num_top = 2;
      batch.set(0, request);
      request.repetition = 1.1f;  // by way of the adjusted copy
      request.prompt = {0};
      batch.set(1, request);
      batch.run(*kernels);
      for (int64_t row = 0; row < 2; ++row) {
        CHECK_EQUAL(batch.tokens.at(row, 0), first);
        CHECK_EQUAL(batch.top_ids.at(row, 0), first);
        CHECK_EQUAL(batch.top_ids.at(row, 1), first + 2);
      }
    }
  }
}

void same_bits_in_any_batch() {
  for (const Kernels* kernels : available_kernels()) {
    const int64_t vocabulary = 9001;
    const std::vector<Request> list = requests(vocabulary);
    Batch batch(static_cast<int64_t>(list.size()), vocabulary);
    fill(batch.logits, 77);
    for (int64_t row = 0; row < batch.rows; ++row) batch.set(row, list[row]);
    batch.run(*kernels);
    const Batch expected = batch;
    for (const int threads : {1, 2, 3, 8}) {
      for (const Schedule& schedule : {Schedule{threads, 5}, Schedule{threads, 0, true}}) {
        batch.run(*kernels, schedule);
        CHECK(batch.tokens == expected.tokens);
        CHECK(batch.log_probs == expected.log_probs);
        CHECK(batch.top_ids == expected.top_ids);
        CHECK(batch.top_log_probs == expected.top_log_probs);
      }
    }
    for (int64_t row = 0; row < batch.rows; ++row) {
      Batch alone(1, vocabulary);
      std::copy_n(batch.logits.row(row), vocabulary, alone.logits.row(0));
      alone.set(0, list[row]);
      alone.run(*kernels, {8, 3});
      CHECK_EQUAL(alone.tokens.at(0, 0), expected.tokens.at(row, 0));
      CHECK(std::memcmp(alone.log_probs.row(0), expected.log_probs.row(row), sizeof(float)) == 0);
      CHECK(std::memcmp(alone.top_log_probs.row(0), expected.top_log_probs.row(row), 20 * sizeof(float)) == 0);
    }
  }
}

void log_probs_match() {
  for (const Kernels* kernels : available_kernels()) {
    for (const int64_t vocabulary : {1, 15, 129, 5000}) {
      Table<float> logits(9, vocabulary, 1), out(9, 1);
      fill(logits, 3);
      for (int64_t id = 0; id < vocabulary; ++id) logits.at(8, id) += 1e4f;
      Table<int32_t> targets(9, 1);
      for (int64_t row = 0; row < 9; ++row) targets.at(row, 0) = static_cast<int32_t>(row * 611 % vocabulary);
      OpRunner("log_probs").in("logits", logits).in("targets", targets).out("out", out).run(*kernels, {2, 3});
      for (int64_t row = 0; row < 8; ++row) {
        const double expected = logits.at(row, targets.at(row, 0)) - log_sum_exp(logits.row(row), vocabulary);
        CHECK(std::abs(out.at(row, 0) - expected) < 3e-6 + 1e-6 * std::abs(expected));
      }
      targets.at(3, 0) = static_cast<int32_t>(vocabulary);
      CHECK_ERROR(kValue, OpRunner("log_probs").in("logits", logits).in("targets", targets).out("out", out).run(*kernels));
    }
  }
}

template <typename Change>
void expect_refusal(const Change& change) {
  const Kernels& kernels = *available_kernels().back();
  Batch batch(2, 100);
  fill(batch.logits, 1);
  Request request;
  request.prompt = {1, 2};
  request.bias = {{4, 1.0f}};
  batch.set(0, request);
  batch.set(1, request);
  change(batch);
  CHECK_ERROR(kValue, batch.run(kernels));
}

void wrong_settings_are_refused() {
  for (const float value : {-0.1f, NAN, INFINITY}) {
    expect_refusal([&](Batch& batch) { batch.reals.at(1, kTemperature) = value; });
    expect_refusal([&](Batch& batch) { batch.reals.at(1, kTopP) = value; });
    expect_refusal([&](Batch& batch) { batch.reals.at(1, kMinP) = value; });
    expect_refusal([&](Batch& batch) { batch.reals.at(1, kRepetitionPenalty) = value; });
  }
  for (const int column : {kPresencePenalty, kFrequencyPenalty})
    expect_refusal([&](Batch& batch) { batch.reals.at(0, column) = NAN; });
  for (int column = 0; column < kIntSettings; ++column) {
    if (column == kSeedLow || column == kSeedHigh || column == kStream) continue;
    expect_refusal([&](Batch& batch) { batch.ints.at(1, column) = -1; });
    if (column == kTopK || column == kPosition) continue;
    expect_refusal([&](Batch& batch) { batch.ints.at(1, column) = INT32_MAX; });
  }
  expect_refusal([](Batch& batch) { batch.history[3] = 100; });
  expect_refusal([](Batch& batch) { batch.bias_ids[1] = -1; });
  expect_refusal([](Batch& batch) { batch.bias_values[0] = NAN; });
  expect_refusal([](Batch& batch) { batch.mask = {1, 1, 1}, batch.ints.at(0, kMaskEnd) = 3; });
  expect_refusal([](Batch& batch) { batch.mask = {0, 0, 0, 0xfffffff0u}, batch.ints.at(0, kMaskEnd) = 4; });
}

// Rows without a usable number are an error, with the row's batch mates unharmed by it.
void broken_logits_are_refused() {
  for (const float value : {NAN, INFINITY, -INFINITY}) {
    for (const float temperature : {0.0f, 1.0f}) {
      for (const float top_p : {1.0f, 0.5f}) {
        expect_refusal([&](Batch& batch) {
          std::fill_n(batch.logits.row(1), 100, value);
          batch.reals.at(1, kTemperature) = temperature;
          batch.reals.at(1, kTopP) = top_p;
        });
      }
    }
  }
  expect_refusal([&](Batch& batch) { batch.logits.at(0, 50) = NAN; });
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"matches_reference", matches_reference},
                          {"draws_have_the_distribution", draws_have_the_distribution},
                          {"ties_go_to_the_lowest_id", ties_go_to_the_lowest_id},
                          {"same_bits_in_any_batch", same_bits_in_any_batch},
                          {"log_probs_match", log_probs_match},
                          {"wrong_settings_are_refused", wrong_settings_are_refused},
                          {"broken_logits_are_refused", broken_logits_are_refused}});
}
