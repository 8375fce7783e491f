#include "ops/group_codes.h"

#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/matmul.h"

namespace weft {

namespace {

constexpr int kSize = 32;

float rounded_to_f16(float value) { return float_of_f16(f16_of_float(value)); }

float clamp(float value, float low, float high) { return value < low ? low : value > high ? high : value; }

// The line value = scale * code + minimum through 32 points with the least squared error; false if the
// codes are all equal.
bool fit_line(const float* values, const float* codes, float* scale, float* minimum) {
  float sum_x = 0, sum_c = 0, sum_cc = 0, sum_xc = 0;
  for (int i = 0; i < kSize; ++i) {
    sum_x += values[i];
    sum_c += codes[i];
    sum_cc += codes[i] * codes[i];
    sum_xc += values[i] * codes[i];
  }
  const float spread = kSize * sum_cc - sum_c * sum_c;
  if (!(spread > 0)) return false;
  *scale = (kSize * sum_xc - sum_c * sum_x) / spread;
  *minimum = (sum_x - *scale * sum_c) / kSize;
  return true;
}

// The nearest codes for a line, and their squared error.
float round_to_line(const float* values, float scale, float minimum, float* codes) {
  const float inverse = scale != 0 ? 1.0f / scale : 0.0f;
  float error = 0;
  for (int i = 0; i < kSize; ++i) {
    codes[i] = clamp(nearbyintf((values[i] - minimum) * inverse), 0.0f, 15.0f);
    const float difference = scale * codes[i] + minimum - values[i];
    error += difference * difference;
  }
  return error;
}

struct Line {
  float scale, minimum, error;
  float codes[kSize];
};

// Keeps the better of `best` and the line (scale, minimum), both rounded as they will be stored.
void try_line(const float* values, float scale, float minimum, Line* best) {
  Line line;
  line.scale = rounded_to_f16(scale);
  line.minimum = rounded_to_f16(minimum);
  if (!isfinite(line.scale) || !isfinite(line.minimum)) return;
  line.error = round_to_line(values, line.scale, line.minimum, line.codes);
  if (line.error < best->error) *best = line;
}

}  // namespace

void encode_q8(const float* values, GroupCodes* group) {
  float largest = 0;
  for (int i = 0; i < kSize; ++i) largest = fmaxf(largest, fabsf(values[i]));
  group->scale = rounded_to_f16(largest / 127.0f);
  group->minimum = 0;
  const float inverse = group->scale > 0 ? 1.0f / group->scale : 0.0f;
  for (int i = 0; i < kSize; ++i)
    group->codes[i] = static_cast<uint8_t>(128.0f + clamp(nearbyintf(values[i] * inverse), -127.0f, 127.0f));
}

void encode_q4(const float* values, GroupCodes* group) {
  float low = values[0], high = values[0];
  for (int i = 1; i < kSize; ++i) {
    low = fminf(low, values[i]);
    high = fmaxf(high, values[i]);
  }
  Line best = {0, 0, INFINITY, {}};
  try_line(values, (high - low) / 15.0f, low, &best);
  // Narrower and wider grids than the range asks for; each gives codes, and these their best line.
  for (int steps = 0; steps <= 16; ++steps) {
    const float trial_scale = (high - low) / (13.4f + 0.2f * static_cast<float>(steps));
    float codes[kSize], scale, minimum;
    round_to_line(values, trial_scale, low, codes);
    if (fit_line(values, codes, &scale, &minimum)) try_line(values, scale, minimum, &best);
  }
  group->scale = best.scale;
  group->minimum = best.minimum;
  for (int i = 0; i < kSize; ++i) group->codes[i] = static_cast<uint8_t>(best.codes[i]);
}

float whole_numbers(const float* scales, const float* minimums, int64_t groups, int16_t* whole_scales, int16_t* centers) {
  const auto center_of = [&](int64_t i) { return minimums ? scales[i] + minimums[i] / 8.0f : 0.0f; };
  float largest = 0;
  for (int64_t i = 0; i < groups; ++i) largest = fmaxf(largest, fabsf(scales[i]) + fabsf(center_of(i)));
  const float unit = largest / kMostWhole, inverse = unit > 1e-30f ? 1.0f / unit : 0.0f;
  for (int64_t i = 0; i < groups; ++i) {
    whole_scales[i] = static_cast<int16_t>(nearbyintf(scales[i] * inverse));
    centers[i] = static_cast<int16_t>(nearbyintf(center_of(i) * inverse));
  }
  return inverse > 0 ? unit : 0.0f;
}

float encode_int8(const float* values, int64_t count, uint8_t* codes) {
  float largest = 0;
  for (int64_t i = 0; i < count; ++i) largest = fmaxf(largest, fabsf(values[i]));
  const float scale = largest / 127.0f, inverse = scale > 1e-30f ? 1.0f / scale : 0.0f;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<uint8_t>(128.0f + clamp(nearbyintf(values[i] * inverse), -127.0f, 127.0f));
  return inverse > 0 ? scale : 0.0f;
}

}  // namespace weft
