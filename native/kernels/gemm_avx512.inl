// Tiles of 12 rows x 32 columns: 24 sums, two vectors of B and a few broadcast elements of A of 32 registers.
// The one-line assembly keeps gcc from spilling the sums.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kTileRows = 12;
constexpr int64_t kTileVectors = 2;
constexpr int64_t kRowsInCache = 240;
constexpr GemmForm kBF16Form = GemmForm::kBF16Pairs;

inline void add_product(F32& sum, F32 a, F32 b) {
#if defined(WEFT_EMULATE_AVX512)
  sum = fma(a, b, sum);
#else
  asm("vfmadd231ps %[b], %[a], %[sum]" : [sum] "+v"(sum) : [a] "v"(a), [b] "v"(b));
#endif
}

// sum += a * b over a pair of bfloat16 in each lane
inline void add_pair_product(F32& sum, I32 a, I32 b) {
#if defined(WEFT_EMULATE_AVX512)
  const I32 high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const F32 odd = mul(_mm512_castsi512_ps(_mm512_and_si512(a, high)), _mm512_castsi512_ps(_mm512_and_si512(b, high)));
  const F32 even = mul(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)));
  sum = add(add(sum, odd), even);
#else
  asm("vdpbf16ps %[b], %[a], %[sum]" : [sum] "+v"(sum) : [a] "v"(a), [b] "v"(b));
#endif
}

template <GemmForm kForm, int kRows>
inline void add_products(const uint8_t* a_strip, const uint8_t* b_strip, int64_t k, F32 (&sums)[kRows][kTileVectors]) {
  const int32_t* a = reinterpret_cast<const int32_t*>(a_strip);
  const float* b = reinterpret_cast<const float*>(b_strip);
  const int64_t steps = kForm == GemmForm::kBF16Pairs ? (k + 1) / 2 : k;
#pragma GCC unroll 2
  for (int64_t i = 0; i < steps; ++i, a += kTileRows, b += kTileVectors * kLanes) {
    const F32 b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) {
      const I32 x = _mm512_set1_epi32(a[row]);
      if constexpr (kForm == GemmForm::kBF16Pairs) {
        add_pair_product(sums[row][0], x, _mm512_castps_si512(b0));
        add_pair_product(sums[row][1], x, _mm512_castps_si512(b1));
      } else {
        add_product(sums[row][0], _mm512_castsi512_ps(x), b0);
        add_product(sums[row][1], _mm512_castsi512_ps(x), b1);
      }
    }
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
