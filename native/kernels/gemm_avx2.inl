// Tiles of 6 rows x 16 columns: 12 sums, two vectors of B and two broadcast elements of A fill the 16 registers.
// The one-line assembly keeps gcc from spilling the sums.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kTileRows = 6;
constexpr int64_t kTileVectors = 2;
constexpr int64_t kRowsInCache = 192;
constexpr GemmForm kBF16Form = GemmForm::kRoundedF32;

inline void add_product(F32& sum, F32 a, F32 b) {
  asm("vfmadd231ps %[b], %[a], %[sum]" : [sum] "+x"(sum) : [a] "x"(a), [b] "x"(b));
}

template <GemmForm kForm, int kRows, int kVectors>
inline void add_products(const uint8_t* a_strip, const uint8_t* b_strip, int64_t k, F32 (&sums)[kRows][kVectors]) {
  const float* a = reinterpret_cast<const float*>(a_strip);
  const float* b = reinterpret_cast<const float*>(b_strip);
#pragma GCC unroll 4
  for (int64_t i = 0; i < k; ++i, a += kTileRows, b += kTileVectors * kLanes) {
    const F32 b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 6
    for (int row = 0; row < kRows; ++row) {
      const F32 x = broadcast(a[row]);
      add_product(sums[row][0], x, b0);
      if constexpr (kVectors == 2) add_product(sums[row][1], x, b1);
    }
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
