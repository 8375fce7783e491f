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

// The numbers of `groups` groups of a row of 4-bit codes as whole numbers of a unit, which is returned:
//   scale * code + minimum  ~  unit * (whole_scale * (code - 8) + 8 * center)
// Each is rounded by half a unit at most, of which the largest |whole_scale| + |center| has kMostWhole. minimums: null
// for -8 * scale, whose centers are 0.
float whole_numbers(const float* scales, const float* minimums, int64_t groups, int16_t* whole_scales, int16_t* centers);

}  // namespace weft
