// The search behind nth_highest and top_p: bisection over floats in their order.
#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

namespace weft {

// Floats as integers of the same order.
inline int64_t order_of(float value) {
  int32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits >= 0 ? bits : bits ^ 0x7fffffff;
}

inline float float_of_order(int64_t order) {
  int32_t bits = static_cast<int32_t>(order);
  if (bits < 0) bits ^= 0x7fffffff;
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}

// The largest float t <= `most` for which reaches(t) holds, given that it holds for -infinity, and for every
// float below one for which it holds.
template <typename Reaches>
float largest_reaching(float most, const Reaches& reaches) {
  int64_t low = order_of(-INFINITY), high = order_of(most) + 1;
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (reaches(float_of_order(middle)) ? low : high) = middle;
  }
  return float_of_order(low);
}

}  // namespace weft
