// Products on AVX2. 4-bit codes (0..15, unsigned) times 8-bit rows are added in 16 bits over a group, which
// holds 8 * 2 * 15 * 127 = 30480; 8-bit codes are widened to 16 bits, and their pairs added in 32.
namespace weft::kernels::WEFT_KERNELS {

namespace {

constexpr RowForm kFormQ8 = RowForm::kI16;
constexpr RowForm kFormQ4 = RowForm::kI8;
constexpr RowForm kFormBF16 = RowForm::kF32;

inline I32 load_bytes(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store_bytes(void* to, I32 value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
inline void store_streaming(float* to, F32 value) { _mm256_stream_ps(to, value); }
inline void finish_streaming() { _mm_sfence(); }

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

// The two operations of an integer product, kept together so that the compiler spills no sum.
inline void add_byte_dot(I32& sum, I32 codes, I32 row) {
  I32 product;
  asm("vpmaddubsw %[row], %[codes], %[product]\n\tvpaddw %[product], %[sum], %[sum]"
      : [sum] "+x"(sum), [product] "=&x"(product)
      : [codes] "x"(codes), [row] "x"(row));
}
inline void add_pair_dot(I32& sum, I32 codes, I32 row) {
  I32 product;
  asm("vpmaddwd %[row], %[codes], %[product]\n\tvpaddd %[product], %[sum], %[sum]"
      : [sum] "+x"(sum), [product] "=&x"(product)
      : [codes] "x"(codes), [row] "x"(row));
}

// acc = fma(minimum, x_sum, acc);  acc = fma(scale * x_scale, dot, acc)
template <bool kMinimum>
inline void add_scaled(float* acc, I32 dot, F32 scale, F32 minimum, F32 x_scale, F32 x_sum) {
  F32 sum = load(acc);
  if (kMinimum) sum = fma(minimum, x_sum, sum);
  store(acc, fma(mul(scale, x_scale), _mm256_cvtepi32_ps(dot), sum));
}

// One group of kRows rows times two vectors of columns.
template <int kRows, bool kMinimum>
struct PairOfColumns {
  static inline void finish(float* acc, const I32 (&dots)[kRows][2], const float* scale, const float* minimum,
                            const float* x_scales) {
    const F32 scale0 = load(scale), scale1 = load(scale + 8);
    const F32 minimum0 = kMinimum ? load(minimum) : zero(), minimum1 = kMinimum ? load(minimum + 8) : zero();
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const F32 x_scale = broadcast(x_scales[2 * r]), x_sum = broadcast(x_scales[2 * r + 1]);
      add_scaled<kMinimum>(acc + r * 32, dots[r][0], scale0, minimum0, x_scale, x_sum);
      add_scaled<kMinimum>(acc + r * 32 + 8, dots[r][1], scale1, minimum1, x_scale, x_sum);
    }
  }
};

// 4-bit panels. Unpacked: codes [8 k/4][32 n][4 k] in bytes, scales [32], minimums [32].
struct PanelQ4 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kCodeBytes = 1024;
  static constexpr int64_t kUnpackedBytes = kCodeBytes + 256;

  static void unpack(const PanelFormat& format, const uint8_t* group, uint8_t* to, int64_t) {
    const I32 low_half = _mm256_set1_epi8(15);
    for (int pair = 0; pair < 4; ++pair) {
      for (int c = 0; c < 128; c += 32) {
        const I32 both = load_bytes(group + pair * 128 + c);
        store_bytes(to + pair * 256 + c, _mm256_and_si256(both, low_half));
        store_bytes(to + pair * 256 + 128 + c, _mm256_and_si256(_mm256_srli_epi16(both, 4), low_half));
      }
    }
    widen_scales(format, group + 512, reinterpret_cast<float*>(to + kCodeBytes));
  }

  template <int kRows, bool kMinimum>
  static void half_group(const uint8_t* codes, const float* scales, const uint8_t* x, const float* x_scales,
                         float* acc) {
    I32 sums[kRows][2];
    const I32 first0 = load_bytes(codes), first1 = load_bytes(codes + 32);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const I32 row = broadcast_bytes(x + r * 32);
      sums[r][0] = _mm256_maddubs_epi16(first0, row);
      sums[r][1] = _mm256_maddubs_epi16(first1, row);
    }
#pragma GCC unroll 8
    for (int step = 1; step < 8; ++step) {
      const I32 codes0 = load_bytes(codes + step * 128), codes1 = load_bytes(codes + step * 128 + 32);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const I32 row = broadcast_bytes(x + r * 32 + step * 4);
        add_byte_dot(sums[r][0], codes0, row);
        add_byte_dot(sums[r][1], codes1, row);
      }
    }
    const I32 ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < 2; ++c) sums[r][c] = _mm256_madd_epi16(sums[r][c], ones);
    PairOfColumns<kRows, kMinimum>::finish(acc, sums, scales, scales + 32, x_scales);
  }

  template <int kRows, bool kMinimum>
  static void tile_groups(const uint8_t* unpacked, Rows x, int64_t groups, float* acc) {
    for (int64_t group = 0; group < groups; ++group) {
      const float* scales = reinterpret_cast<const float*>(unpacked + kCodeBytes);
      half_group<kRows, kMinimum>(unpacked, scales, x.values, x.scales, acc);
      half_group<kRows, kMinimum>(unpacked + 64, scales + 16, x.values, x.scales, acc + 16);
      unpacked += kUnpackedBytes;
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, false>(w.data, x, num_groups(w.k), acc);
    } else {
      tile_groups<kRows, true>(w.data, x, num_groups(w.k), acc);
    }
  }
};

// 8-bit panels. Unpacked: codes [8 k/4][2][32 n][2 k] in 16 bits, of each four inputs (0, 2) then (1, 3);
// scales [1 or 2][32], minimums [32].
struct PanelQ8 {
  static constexpr int64_t kTileRows = 6;
  static constexpr int64_t kCodeBytes = 2048;
  static constexpr int64_t kUnpackedBytes = kCodeBytes + 256;

  static void unpack(const PanelFormat& format, const uint8_t* group, uint8_t* to, int64_t) {
    const I32 flip = _mm256_set1_epi8(-128);
    for (int block = 0; block < 8; ++block) {
      for (int c = 0; c < 128; c += 32) {
        const I32 codes = _mm256_xor_si256(load_bytes(group + block * 128 + c), flip);
        store_bytes(to + block * 256 + c, _mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 8));
        store_bytes(to + block * 256 + 128 + c, _mm256_srai_epi16(codes, 8));
      }
    }
    widen_scales(format, group + 1024, reinterpret_cast<float*>(to + kCodeBytes));
  }

  template <int kRows, int kSteps, bool kMinimum>
  static void half_group(const uint8_t* codes, const float* scales, const float* minimums, const uint8_t* x,
                         const float* x_scales, float* acc) {
    I32 sums[kRows][2];
    const I32 first0 = load_bytes(codes), first1 = load_bytes(codes + 32);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const I32 row = broadcast_bytes(x + r * 64);
      sums[r][0] = _mm256_madd_epi16(first0, row);
      sums[r][1] = _mm256_madd_epi16(first1, row);
    }
#pragma GCC unroll 16
    for (int step = 1; step < kSteps; ++step) {
      const I32 codes0 = load_bytes(codes + step * 128), codes1 = load_bytes(codes + step * 128 + 32);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const I32 row = broadcast_bytes(x + r * 64 + step * 4);
        add_pair_dot(sums[r][0], codes0, row);
        add_pair_dot(sums[r][1], codes1, row);
      }
    }
    PairOfColumns<kRows, kMinimum>::finish(acc, sums, scales, minimums, x_scales);
  }

  template <int kRows, bool kMinimum>
  static void tile_groups(const uint8_t* unpacked, Rows x, int64_t groups, float* acc) {
    for (int64_t group = 0; group < groups; ++group) {
      const float* scales = reinterpret_cast<const float*>(unpacked + kCodeBytes);
      half_group<kRows, 16, kMinimum>(unpacked, scales, scales + 32, x.values, x.scales, acc);
      half_group<kRows, 16, kMinimum>(unpacked + 64, scales + 16, scales + 48, x.values, x.scales, acc + 16);
      unpacked += kUnpackedBytes;
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile_two_scales(const uint8_t* unpacked, Rows x, int64_t groups, float* acc) {
    for (int64_t group = 0; group < groups; ++group) {
      const float* scales = reinterpret_cast<const float*>(unpacked + kCodeBytes);
      for (int part = 0; part < 2; ++part) {
        const uint8_t* codes = unpacked + part * 1024;
        const uint8_t* values = x.values + part * 32;
        half_group<kRows, 8, false>(codes, scales + 32 * part, nullptr, values, x.scales, acc);
        half_group<kRows, 8, false>(codes + 64, scales + 32 * part + 16, nullptr, values, x.scales, acc + 16);
      }
      unpacked += kUnpackedBytes;
      x.values += x.values_step;
      x.scales += x.scales_step;
    }
  }

  template <int kRows>
  static void tile(const Groups& w, Rows x, float* acc) {
    if (w.format.scales_per_group == 2) {
      tile_two_scales<kRows>(w.data, x, num_groups(w.k), acc);
    } else if (w.format.minimum == Minimum::kNone) {
      tile_groups<kRows, false>(w.data, x, num_groups(w.k), acc);
    } else {
      tile_groups<kRows, true>(w.data, x, num_groups(w.k), acc);
    }
  }
};

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

constexpr int64_t kFewRows = 4;
using FewF32 = PanelF32;
using ManyF32 = PanelF32;
using FewF16 = PanelF16;
using ManyF16 = PanelF16;
using FewBF16 = PanelBF16;
using ManyBF16 = PanelBF16;
using FewQ8 = PanelQ8;
using ManyQ8 = PanelQ8;
using FewQ4 = PanelQ4;
using ManyQ4 = PanelQ4;

}  // namespace

}  // namespace weft::kernels::WEFT_KERNELS
