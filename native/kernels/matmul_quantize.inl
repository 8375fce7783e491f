// The numbers of a quantized group of a row, the same on every instruction set.
namespace weft::kernels::WEFT_KERNELS {

namespace {

// 127 / largest; 0 for a group so small that its inverse would overflow, whose codes and scale are then 0.
inline bool is_nothing(float largest) { return largest < 1e-30f; }
inline float quantizing_factor(float largest) { return is_nothing(largest) ? 0.0f : 127.0f / largest; }
inline float quantizing_scale(float largest) { return is_nothing(largest) ? 0.0f : largest / 127.0f; }

// Sums wrap: an infinite or NaN value has a code of any size, and its group's scale makes the product no number.
inline int32_t wrapped(uint32_t value) { return static_cast<int32_t>(value); }

inline void note_sums(float largest, int32_t first_half, int32_t second_half, float* scales, int32_t* sums) {
  const float scale = quantizing_scale(largest);
  scales[0] = scale;
  const auto first = static_cast<uint32_t>(first_half), second = static_cast<uint32_t>(second_half);
  scales[1] = scale * static_cast<float>(wrapped(first + second));
  sums[0] = wrapped(0u - 128u * (first + second));
  sums[1] = wrapped(0u - 128u * first);
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
