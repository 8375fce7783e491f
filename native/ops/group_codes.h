// Quantizing weights, in groups of 32 or a whole row.
#pragma once

#include <stdint.h>

namespace weft {

struct GroupCodes {
  uint8_t codes[32];  // 8-bit ones with 128 added
  float scale;        // both hold as float16
  float minimum;
};

// The nearest 8-bit codes with one scale: value = scale * (code - 128). Values lie below 2^22 in size.
void encode_q8(const float* values, GroupCodes* group);

// 4-bit codes with scale and minimum, value = scale * code + minimum, whose squared error is the least that a
// short search over ranges, each with its least-squares line, finds.
void encode_q4(const float* values, GroupCodes* group);

// The nearest 8-bit codes, 128 added, of a row of weights with one scale, which is returned.
float encode_int8(const float* values, int64_t count, uint8_t* codes);

}  // namespace weft
