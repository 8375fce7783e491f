// Tiles of 12 rows x 32 columns: 24 sums, two vectors of B and a broadcast element of A of 32 registers. One piece of
// assembly a row keeps gcc from spilling the sums, and the loop stays rolled up: gcc copies all sums between two rounds
// of an unrolled one, through memory. 98 % of the multiply-adds that registers allow on Zen 4.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr int64_t kTileRows = 12;
constexpr int64_t kTileVectors = 2;
constexpr int64_t kRowsInCache = 240;
constexpr GemmForm kBF16Form = GemmForm::kBF16Pairs;

// sums += *a * b in each lane; over a pair of bfloat16 with kBF16Pairs.
#if defined(WEFT_EMULATE_AVX512)
inline F32 odd_half(F32 pairs) {
  const I32 high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), high));
}
inline F32 even_half(F32 pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16)); }

template <GemmForm kForm, int kVectors>
inline void add_row(F32 (&sums)[kVectors], const int32_t* a, const F32 (&b)[kTileVectors]) {
  const F32 x = _mm512_castsi512_ps(_mm512_set1_epi32(*a));
  for (int i = 0; i < kVectors; ++i) {
    if constexpr (kForm == GemmForm::kBF16Pairs) {
      sums[i] = add(add(sums[i], mul(odd_half(x), odd_half(b[i]))), mul(even_half(x), even_half(b[i])));
    } else {
      sums[i] = fma(x, b[i], sums[i]);
    }
  }
}
#else
#define WEFT_ADD_HALF(instruction)                                                    \
  asm("vpbroadcastd %[a], %[x]\n\t" instruction " %[b0], %[x], %[sum0]" : [x] "=&v"(x), \
      [sum0] "+v"(sums[0]) : [a] "m"(*a), [b0] "v"(b[0]))
#define WEFT_ADD_ROW(instruction)                                                                             \
  asm("vpbroadcastd %[a], %[x]\n\t" instruction " %[b0], %[x], %[sum0]\n\t" instruction " %[b1], %[x], %[sum1]" \
      : [x] "=&v"(x), [sum0] "+v"(sums[0]), [sum1] "+v"(sums[1])                                              \
      : [a] "m"(*a), [b0] "v"(b[0]), [b1] "v"(b[1]))

template <GemmForm kForm, int kVectors>
inline void add_row(F32 (&sums)[kVectors], const int32_t* a, const F32 (&b)[kTileVectors]) {
  F32 x;
  if constexpr (kForm == GemmForm::kBF16Pairs && kVectors == 1) {
    WEFT_ADD_HALF("vdpbf16ps");
  } else if constexpr (kForm == GemmForm::kBF16Pairs) {
    WEFT_ADD_ROW("vdpbf16ps");
  } else if constexpr (kVectors == 1) {
    WEFT_ADD_HALF("vfmadd231ps");
  } else {
    WEFT_ADD_ROW("vfmadd231ps");
  }
}
#undef WEFT_ADD_HALF
#undef WEFT_ADD_ROW
#endif

template <GemmForm kForm, int kRows, int kVectors>
inline void add_products(const uint8_t* a_strip, const uint8_t* b_strip, int64_t k, F32 (&sums)[kRows][kVectors]) {
  const int32_t* a = reinterpret_cast<const int32_t*>(a_strip);
  const float* b = reinterpret_cast<const float*>(b_strip);
  const int64_t steps = kForm == GemmForm::kBF16Pairs ? (k + 1) / 2 : k;
  for (int64_t i = 0; i < steps; ++i, a += kTileRows, b += kTileVectors * kLanes) {
    const F32 columns[kTileVectors] = {load(b), load(b + kLanes)};
#pragma GCC unroll 12
    for (int row = 0; row < kRows; ++row) add_row<kForm, kVectors>(sums[row], a + row, columns);
  }
}

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
