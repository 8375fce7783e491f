// The numbers of a quantized group of a row, the same on every instruction set.
namespace weft::kernels::WEFT_KERNELS {

namespace {

// 127 / largest; 0 for a group so small that its inverse would overflow, whose codes and scale are then 0.
inline bool is_nothing(float largest) { return largest < 1e-30f; }
inline float quantizing_factor(float largest) { return is_nothing(largest) ? 0.0f : 127.0f / largest; }

inline void note_sums(float largest, int32_t first_half, int32_t second_half, float* scales, int32_t* sums) {
  const float scale = is_nothing(largest) ? 0.0f : largest / 127.0f;
  scales[0] = scale;
  scales[1] = scale * static_cast<float>(first_half + second_half);
  sums[0] = -128 * first_half;
  sums[1] = -128 * second_half;
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
