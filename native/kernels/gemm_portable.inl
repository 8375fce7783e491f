// Tiles of 4 rows x 8 columns, packing by plain loops: any 64-bit machine.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kTileRows = 4;
constexpr int64_t kTileVectors = 2;
constexpr int64_t kRowsInCache = 128;
constexpr GemmForm kBF16Form = GemmForm::kRoundedF32;

template <GemmForm kForm, int kRows, int kVectors>
inline void add_products(const uint8_t* a_strip, const uint8_t* b_strip, int64_t k, F32 (&sums)[kRows][kVectors]) {
  const float* a = reinterpret_cast<const float*>(a_strip);
  const float* b = reinterpret_cast<const float*>(b_strip);
  for (int64_t i = 0; i < k; ++i, a += kTileRows, b += kTileVectors * kLanes) {
    const F32 b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 4
    for (int row = 0; row < kRows; ++row) {
      const F32 x = broadcast(a[row]);
      sums[row][0] = fma(x, b0, sums[row][0]);
      if constexpr (kVectors == 2) sums[row][1] = fma(x, b1, sums[row][1]);
    }
  }
}

// To nearest even; NaN keeps its upper bits and becomes quiet.
inline float rounded_to_bf16(float value) {
  const uint32_t bits = f32_to_bits(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bits_to_f32((bits & 0xffff0000u) | 0x400000u);
  return bits_to_f32((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u);
}

template <GemmForm kForm, int64_t kWidth>
void pack_strips(const GemmSource& source, int64_t rows, int64_t k, float* to, int64_t strip_words) {
  for (int64_t first = 0; first < rows; first += kWidth, to += strip_words) {
    const int64_t count = rows - first < kWidth ? rows - first : kWidth;
    for (int64_t i = 0; i < k; ++i) {
      const float* from = source.data + first * source.row_stride + i * source.k_stride;
      for (int64_t row = 0; row < kWidth; ++row) {
        const float value = row < count ? from[row * source.row_stride] : 0.0f;
        to[i * kWidth + row] = kForm == GemmForm::kRoundedF32 ? rounded_to_bf16(value) : value;
      }
    }
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
