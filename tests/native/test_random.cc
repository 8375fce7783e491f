// Philox against the known answers that its authors publish (Random123, kat_vectors), and its uniforms.
#include "base/random.h"

#include <cstdint>

#include "tests/native/check.h"

namespace {

using weft::Random4;

void known_answers() {
  struct Answer {
    Random4 counter;
    uint32_t key[2];
    Random4 expected;
  };
  const Answer answers[] = {
      {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
      {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
       {0xffffffff, 0xffffffff},
       {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
      {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
       {0xa4093822, 0x299f31d0},
       {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
  };
  for (const Answer& answer : answers) {
    const Random4 got = weft::philox4x32(answer.counter, answer.key[0], answer.key[1]);
    for (int i = 0; i < 4; ++i) CHECK_EQUAL(got.word[i], answer.expected.word[i]);
  }
}

// The counter is (position, stream), the key the seed, low words first.
void arguments_have_their_places() {
  const Random4 got = weft::random4(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88);
  CHECK_EQUAL(got.word[0], 0xd16cfe09u);
  CHECK_EQUAL(got.word[3], 0x24126ea1u);
}

void uniform_stays_inside() {
  double sum = 0, sum_of_squares = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const float x = weft::uniform(7, 3, static_cast<uint64_t>(i));
    const double y = weft::uniform_f64(7, 3, static_cast<uint64_t>(i));
    CHECK(x > 0.0f && x < 1.0f && y > 0.0 && y < 1.0);
    sum += y;
    sum_of_squares += y * y;
  }
  const double mean = sum / kCount, variance = sum_of_squares / kCount - mean * mean;
  CHECK(mean > 0.498 && mean < 0.502);
  CHECK(variance > 0.0825 && variance < 0.0842);
  // The largest value of each formula is below one.
  CHECK((8388607.0f + 0.5f) * 0x1p-23f < 1.0f);
  CHECK((4503599627370495.0 + 0.5) * 0x1p-52 < 1.0);
}

void streams_and_seeds_differ() {
  int equal = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    equal += weft::uniform(1, 0, i) == weft::uniform(1, 1, i);
    equal += weft::uniform(1, 0, i) == weft::uniform(2, 0, i);
    equal += weft::uniform(1, i, 0) == weft::uniform(1, 0, i + 1);
  }
  CHECK(equal < 5);
}

}  // namespace

int main(int argc, char** argv) {
  return weft::test::run(argc, argv,
                         {{"known_answers", known_answers},
                          {"arguments_have_their_places", arguments_have_their_places},
                          {"uniform_stays_inside", uniform_stays_inside},
                          {"streams_and_seeds_differ", streams_and_seeds_differ}});
}
