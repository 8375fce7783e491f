#include "ops/sample_settings.h"

#include <math.h>
#include <string.h>

#include <algorithm>
#include <array>
#include <bit>

namespace weft {

namespace {

constexpr std::array<uint32_t, 32> kBits = [] {
  std::array<uint32_t, 32> bits{};
  for (uint32_t i = 0; i < 32; ++i) bits[i] = uint32_t{1} << i;
  return bits;
}();

[[noreturn]] void refuse(int64_t row, const std::string& expected, const std::string& got) {
  throw Error(ErrorKind::kValue, "sampling of row " + std::to_string(row) + " expects " + expected + ", got " + got +
                                     "; correct the request's settings");
}

void expect(bool holds, int64_t row, const char* expected, double got) {
  if (!holds) refuse(row, expected, std::to_string(got));
}

template <typename T>
Part<T> part_of(const Matrix& ragged, int64_t begin, int64_t end) {
  return {static_cast<const T*>(ragged.data) + begin, end - begin};
}

void check_reals(const float* reals, int64_t row) {
  const auto finite_from = [](float value, float least) { return isfinite(value) && value >= least; };
  expect(finite_from(reals[kTemperature], 0.0f), row, "a temperature of 0 or more", reals[kTemperature]);
  expect(reals[kTopP] > 0.0f && reals[kTopP] <= 1.0f, row, "a top_p above 0 and at most 1", reals[kTopP]);
  expect(reals[kMinP] >= 0.0f && reals[kMinP] <= 1.0f, row, "a min_p from 0 to 1", reals[kMinP]);
  expect(isfinite(reals[kRepetitionPenalty]) && reals[kRepetitionPenalty] > 0.0f, row,
         "a repetition penalty above 0", reals[kRepetitionPenalty]);
  expect(isfinite(reals[kPresencePenalty]), row, "a finite presence penalty", reals[kPresencePenalty]);
  expect(isfinite(reals[kFrequencyPenalty]), row, "a finite frequency penalty", reals[kFrequencyPenalty]);
}

void check_part(int64_t row, const char* what, int64_t begin, int64_t end, int64_t size) {
  if (begin >= 0 && begin <= end && end <= size) return;
  refuse(row, std::string(what) + " within " + std::to_string(size),
         std::to_string(begin) + " to " + std::to_string(end));
}

void check_ids(int64_t row, const char* what, Part<int32_t> ids, int64_t vocabulary) {
  for (const int32_t id : ids) {
    if (id < 0 || id >= vocabulary)
      refuse(row, std::string(what) + " below " + std::to_string(vocabulary), std::to_string(id));
  }
}

void check_mask_size(int64_t row, int64_t size, int64_t vocabulary) {
  const int64_t words = (vocabulary + 31) / 32;
  if (size != 0 && size != words) refuse(row, "a mask of " + std::to_string(words) + " words", std::to_string(size));
}

// Whether bit `id` was 0; it is 1 after.
bool mark(uint32_t* seen, int32_t id) {
  const uint32_t bit = uint32_t{1} << (id % 32);
  const bool is_new = (seen[id / 32] & bit) == 0;
  seen[id / 32] |= bit;
  return is_new;
}

void clear(uint32_t* seen, int64_t vocabulary) { memset(seen, 0, (vocabulary + 31) / 32 * sizeof(uint32_t)); }

void penalize(const SampleSettings& settings, int64_t vocabulary, float* logits, uint32_t* seen) {
  clear(seen, vocabulary);
  for (const int32_t id : settings.history) {
    if (!mark(seen, id)) continue;
    float& logit = logits[id];
    logit = logit > 0.0f ? logit / settings.repetition_penalty : logit * settings.repetition_penalty;
  }
  clear(seen, vocabulary);
  for (const int32_t id : settings.generated) {
    if (mark(seen, id)) logits[id] -= settings.presence_penalty;
    logits[id] -= settings.frequency_penalty;
  }
}

// out[i] = bit i of `word` is set ? from[i] : -infinity, for 32 values. The loop has no branches, so that it is
// compiled to vectors; words of one kind, which are the most, need no look at their bits.
void copy_allowed_word(uint32_t word, const float* from, float* out) {
  if (word == 0) return void(std::fill_n(out, 32, -INFINITY));
  if (word == ~uint32_t{0}) return void(memmove(out, from, 32 * sizeof(float)));
  const uint32_t forbidden = std::bit_cast<uint32_t>(-INFINITY);
  uint32_t bits[32];
  memcpy(bits, from, sizeof(bits));
  for (uint32_t i = 0; i < 32; ++i) {
    const uint32_t keep = (word & kBits[i]) != 0 ? ~uint32_t{0} : 0;
    bits[i] = (bits[i] & keep) | (forbidden & ~keep);
  }
  memcpy(out, bits, sizeof(bits));
}

// out = the values that `mask` allows, -infinity for all others; `out` may be `from`.
void copy_allowed(const Part<uint32_t>& mask, const float* from, int64_t vocabulary, float* out) {
  const int64_t whole = vocabulary / 32;
  for (int64_t word = 0; word < whole; ++word) copy_allowed_word(mask.data[word], from + 32 * word, out + 32 * word);
  for (int64_t id = 32 * whole; id < vocabulary; ++id)
    out[id] = (mask.data[whole] >> (id % 32) & 1u) != 0 ? from[id] : -INFINITY;
}

}  // namespace

SampleSettings sample_settings(const OpArgs& args, const SampleOperands& operands, int64_t row) {
  const float* reals = args.in[operands.real_settings].f32_row(row);
  const int32_t* ints = args.in[operands.int_settings].i32_row(row);
  const auto unsigned_bits = [&](int column) { return static_cast<uint64_t>(static_cast<uint32_t>(ints[column])); };
  SampleSettings settings = {};
  settings.temperature = reals[kTemperature];
  settings.top_p = reals[kTopP];
  settings.min_p = reals[kMinP];
  settings.repetition_penalty = reals[kRepetitionPenalty];
  settings.presence_penalty = reals[kPresencePenalty];
  settings.frequency_penalty = reals[kFrequencyPenalty];
  settings.top_k = ints[kTopK];
  settings.num_top = ints[kNumTopLogProbs];
  settings.wants_log_prob = ints[kWantsLogProb] != 0;
  settings.seed = unsigned_bits(kSeedLow) | unsigned_bits(kSeedHigh) << 32;
  settings.stream = unsigned_bits(kStream);
  settings.position = unsigned_bits(kPosition);
  const Matrix& history = args.in[operands.history];
  settings.history = part_of<int32_t>(history, ints[kHistoryBegin], ints[kHistoryEnd]);
  settings.generated = part_of<int32_t>(history, ints[kGeneratedBegin], ints[kHistoryEnd]);
  settings.bias_ids = part_of<int32_t>(args.in[operands.bias_ids], ints[kBiasBegin], ints[kBiasEnd]);
  settings.bias_values = part_of<float>(args.in[operands.bias_values], ints[kBiasBegin], ints[kBiasEnd]);
  settings.mask = part_of<uint32_t>(args.in[operands.mask_words], ints[kMaskBegin], ints[kMaskEnd]);
  return settings;
}

void check_sample_settings(const OpArgs& args, const SampleOperands& operands, int64_t row, int64_t vocabulary) {
  check_reals(args.in[operands.real_settings].f32_row(row), row);
  const int32_t* ints = args.in[operands.int_settings].i32_row(row);
  const int64_t most_top = std::min(kMaxTopLogProbs, vocabulary);
  expect(ints[kTopK] >= 0, row, "a top_k of 0 or more", ints[kTopK]);
  expect(ints[kWantsLogProb] == 0 || ints[kWantsLogProb] == 1, row, "0 or 1 for log_probs", ints[kWantsLogProb]);
  expect(ints[kNumTopLogProbs] >= 0 && ints[kNumTopLogProbs] <= most_top, row, "at most 20 top log_probs",
         ints[kNumTopLogProbs]);
  expect(ints[kPosition] >= 0, row, "a position of 0 or more", ints[kPosition]);
  check_part(row, "history", ints[kHistoryBegin], ints[kGeneratedBegin], args.in[operands.history].rows);
  check_part(row, "generated tokens", ints[kGeneratedBegin], ints[kHistoryEnd], args.in[operands.history].rows);
  check_part(row, "biases", ints[kBiasBegin], ints[kBiasEnd], args.in[operands.bias_ids].rows);
  check_part(row, "biases", ints[kBiasBegin], ints[kBiasEnd], args.in[operands.bias_values].rows);
  check_part(row, "mask words", ints[kMaskBegin], ints[kMaskEnd], args.in[operands.mask_words].rows);
  const SampleSettings settings = sample_settings(args, operands, row);
  check_ids(row, "history of tokens", settings.history, vocabulary);
  check_ids(row, "tokens with a bias", settings.bias_ids, vocabulary);
  for (const float value : settings.bias_values)
    expect(value < INFINITY, row, "a bias that is a number below infinity", value);
  check_mask_size(row, settings.mask.size, vocabulary);
}

void check_mask_allows(int64_t row, const Part<uint32_t>& mask, int64_t vocabulary) {
  if (mask.size == 0) return;
  const uint32_t last_bits = vocabulary % 32 ? (uint32_t{1} << vocabulary % 32) - 1 : ~uint32_t{0};
  for (int64_t word = 0; word < mask.size; ++word)
    if ((mask.data[word] & (word + 1 < mask.size ? ~uint32_t{0} : last_bits)) != 0) return;
  refuse(row, "a mask that allows a token", "none allowed");
}

void adjust_logits(const SampleSettings& settings, const float* logits, int64_t vocabulary, float* adjusted,
                   uint32_t* seen) {
  if (settings.bias_ids.size == 0 && !settings.has_penalty()) return copy_allowed(settings.mask, logits, vocabulary, adjusted);
  memcpy(adjusted, logits, vocabulary * sizeof(float));
  for (int64_t i = 0; i < settings.bias_ids.size; ++i)
    adjusted[settings.bias_ids.data[i]] += settings.bias_values.data[i];
  if (settings.has_penalty()) penalize(settings, vocabulary, adjusted, seen);
  if (settings.mask.size > 0) copy_allowed(settings.mask, adjusted, vocabulary, adjusted);
}

}  // namespace weft
