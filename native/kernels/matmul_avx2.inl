// Products on AVX2: how rows are quantized, and panels of floats. Those of integers are in matmul_avx2_codes.inl
// (many rows, unpacked) and matmul_avx2_few.inl (few rows, as they are).
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr RowForm kFormQ8 = RowForm::kI16;
constexpr RowForm kFormInt8 = kFormQ8;
constexpr RowForm kFormQ4 = RowForm::kI8;
constexpr RowForm kFormBF16 = RowForm::kF32;

inline I32 load_bytes(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store_bytes(void* to, I32 value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }

// Four bytes to all lanes.
inline I32 broadcast_bytes(const void* from) {
  return _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(from)));
}

inline int32_t sum_lanes(I32 a) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  sum = _mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32(sum, 0xb1)));
}

// The largest |x| of a group as bits: integers order them as numbers do, and NaN above all.
inline float largest_of_group(const float* x) {
  const I32 magnitude = _mm256_set1_epi32(0x7fffffff);
  I32 top = _mm256_and_si256(load_bytes(x), magnitude);
  for (int i = 8; i < 32; i += 8) top = _mm256_max_epi32(top, _mm256_and_si256(load_bytes(x + i), magnitude));
  __m128i half = _mm_max_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4e));
  half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(half));
}

inline I32 round_to_i32(const float* x, F32 factor) { return _mm256_cvtps_epi32(mul(load(x), factor)); }

// As 16-bit pairs in the order of widened panels: of each four, (0, 2) and (1, 3).
inline void store_pairs(uint8_t* values, I32 codes) {
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  const I32 both = _mm256_broadcastsi128_si256(order);
  const I32 low = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(codes));
  const I32 high = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(codes, 1));
  store_bytes(values, _mm256_shuffle_epi8(low, both));
  store_bytes(values + 32, _mm256_shuffle_epi8(high, both));
}

void quantize_group(const float* x, RowForm form, uint8_t* values, float* scales, int32_t* sums) {
  const float largest = largest_of_group(x);
  const F32 factor = broadcast(quantizing_factor(largest));
  const I32 a = round_to_i32(x, factor), b = round_to_i32(x + 8, factor);
  const I32 c = round_to_i32(x + 16, factor), d = round_to_i32(x + 24, factor);
  const I32 packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  const I32 codes = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  if (form == RowForm::kI16) {
    store_pairs(values, codes);
  } else {
    store_bytes(values, codes);
  }
  note_sums(largest, sum_lanes(_mm256_add_epi32(a, b)), sum_lanes(_mm256_add_epi32(c, d)), scales, sums);
}

void round_group_bf16(const float*, uint8_t*) {}  // no panel asks for it here

// Float panels. Unpacked: [32 k][32 n] float32, which is how kF32 lies in memory already.
struct PanelF32 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kUnpackedBytes = 0;

  template <int kRows>
  static void half_tile(const uint8_t* unpacked, Rows x, int64_t k, float* acc) {
    F32 sums[kRows][2];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      sums[r][0] = load(acc + r * 32);
      sums[r][1] = load(acc + r * 32 + 8);
    }
    const float* weights = reinterpret_cast<const float*>(unpacked);
    for (; k > 0; k -= kGroupInputs, x.values += x.values_step) {
      const float* values = reinterpret_cast<const float*>(x.values);
      const int64_t steps = k < kGroupInputs ? k : kGroupInputs;
      for (int64_t step = 0; step < steps; ++step, weights += kPanelColumns, ++values) {
        const F32 weights0 = load(weights), weights1 = load(weights + 8);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const F32 row = broadcast(values[r * kGroupInputs]);
          sums[r][0] = fma(weights0, row, sums[r][0]);
          sums[r][1] = fma(weights1, row, sums[r][1]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      store(acc + r * 32, sums[r][0]);
      store(acc + r * 32 + 8, sums[r][1]);
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    half_tile<kRows>(w.data, x, w.k, acc);
    half_tile<kRows>(w.data + 64, x, w.k, acc + 16);
  }
};

struct PanelF16 : PanelF32 {
  static constexpr int64_t kUnpackedBytes = 4096;

  static void unpack(const PanelFormat&, const uint8_t* group, uint8_t* to, int64_t k) {
    const uint16_t* from = reinterpret_cast<const uint16_t*>(group);
    float* wide = reinterpret_cast<float*>(to);
    for (int64_t i = 0; i < k * kPanelColumns; i += 8) store(wide + i, load_f16(from + i));
  }
};

struct PanelBF16 : PanelF32 {
  static constexpr int64_t kUnpackedBytes = 4096;

  static void unpack(const PanelFormat&, const uint8_t* group, uint8_t* to, int64_t k) {
    const I32 high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    for (int64_t pair = 0; pair < (k + 1) / 2; ++pair) {
      for (int c = 0; c < 128; c += 32) {
        const I32 both = load_bytes(group + pair * 128 + c);
        store_bytes(to + pair * 256 + c, _mm256_slli_epi32(both, 16));
        store_bytes(to + pair * 256 + 128 + c, _mm256_and_si256(both, high));
      }
    }
  }
};

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
